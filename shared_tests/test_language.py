"""The language of a command is that of the system where none is given."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def explain(*options, **environment):
    cleared = {"LC_ALL": "", "LC_MESSAGES": "", "LANG": "", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "resattn", "explain", "--block", "3,4", *options]
    done = subprocess.run(
        command, capture_output=True, check=False, env={**os.environ, **cleared, **environment}
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("options", "environment", "is_chinese"),
    [
        ((), {"LANG": "zh_CN.UTF-8"}, True),
        ((), {"LC_ALL": "en_GB.UTF-8", "LANG": "zh_CN.UTF-8"}, False),
        ((), {}, False),
        (("--lang", "en"), {"LANG": "zh_CN.UTF-8"}, False),
        (("--lang", "zh"), {"LANG": "en_US.UTF-8"}, True),
    ],
)
def test_language(options, environment, is_chinese):
    status, output, errors = explain(*options, **environment)
    assert status == 0, errors
    assert ("残差块" in output.decode()) is is_chinese
    assert errors == b""


def test_english_where_chinese_cannot_be_printed():
    status, output, errors = explain(LANG="zh_CN.GBK", PYTHONIOENCODING="cp1252")
    assert status == 0
    assert b"A residual block" in output
    assert b"in English, because the encoding of the output, cp1252," in errors
