"""All sentences, by language and key."""

from collections.abc import Mapping

from resattn.explaining import words_en, words_published, words_zh
from resattn.explaining.attention import BY_FILE
from resattn.explaining.executed import words
from weights.attention import ATTENTION


def _summaries() -> dict[str, str]:
    """In English the attention kinds say themselves what they do."""
    kinds = ((name, kind) for name, kind in ATTENTION.items() if kind.built_in and name != "none")
    return {f"summary.{name}": kind.summary for name, kind in kinds}


WORDS: dict[str, Mapping[str, str]] = {
    "en": {**words_en.WORDS, **words_published.EN, **words.WORDS["en"], **_summaries()},
    "zh": {**words_zh.WORDS, **words_published.ZH, **words.WORDS["zh"]},
}
for _words in BY_FILE.values():
    WORDS["en"] = {**WORDS["en"], **_words.en}
    WORDS["zh"] = {**WORDS["zh"], **_words.zh}
