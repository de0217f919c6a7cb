"""The oracle trains: loss, schedules and optimizers in plain NumPy float64, from the papers'
formulas.

Nothing here is shared with `weights.recipe` but the names of its arguments: rates and updates are
written a second time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from resattn.oracle import evaluation as reference
from resattn.oracle.kinks import Kinks
from resattn.oracle.moments import local_parts
from resattn.oracle.node import Array
from weights import schema
from weights.config import Config
from weights.convert import Arrays
from weights.recipe import SGD, Adam, AdamW, Constant, Cosine, Recipe
from weights.shards import Shards


def cross_entropy(logits: Array, labels: Array, label_smoothing: float) -> tuple[float, Array]:
    """The loss and its slope at the logits, (batch, classes) both.

    Szegedy et al. 2016, section 7: cross entropy with q(k) = (1 - e) [k = label] + e / classes, the
    mean over the batch.
    """
    batch, classes = logits.shape
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    q = np.full_like(logits, label_smoothing / classes)
    q[np.arange(batch), labels] += 1 - label_smoothing
    return float(-(q * log_p).sum() / batch), (np.exp(log_p) - q) / batch


def rate(recipe: Recipe, step: int) -> float:
    """The learning rate of the update that follows `step` others."""
    base, schedule = recipe.optimizer.learning_rate, recipe.schedule
    if isinstance(schedule, Constant):
        return base
    if isinstance(
        schedule, Cosine
    ):  # Loshchilov & Hutter 2017, equation 5: lowest + (highest - lowest) (1 + cos) / 2
        lowest, part = schedule.final * base, np.minimum(step / schedule.steps, 1.0)
        return float(lowest + (base - lowest) * (1 + np.cos(np.pi * part)) / 2)
    for milestone in schedule.milestones:
        if step >= milestone:
            base = base * schedule.factor
    return base


def sgd(given: SGD, rate: float, w: Array, g: Array, moments: Arrays) -> tuple[Array, Arrays]:
    """Sutskever et al. 2013, equations 1 to 4, with the velocity v written as -rate times a buffer
    of gradients.
    """
    g = g + given.weight_decay * w
    if not given.momentum:
        return w - rate * g, {}
    buffer = given.momentum * moments["momentum_buffer"] + g
    step = given.momentum * buffer + g if given.nesterov else buffer
    return w - rate * step, {"momentum_buffer": buffer}


def adam(
    given: Adam, rate: float, t: int, w: Array, g: Array, moments: Arrays, *, decoupled: bool
) -> tuple[Array, Arrays]:
    """Kingma & Ba 2015, algorithm 1; with decoupled decay Loshchilov & Hutter 2019, algorithm 2."""
    b1, b2 = given.betas
    if not decoupled:
        g = g + given.weight_decay * w
    m = b1 * moments["exp_avg"] + (1 - b1) * g
    v = b2 * moments["exp_avg_sq"] + (1 - b2) * g * g
    m_hat = m / (1 - b1**t)
    v_hat = v / (1 - b2**t)
    step = m_hat / (np.sqrt(v_hat) + given.eps)
    if decoupled:
        step = step + given.weight_decay * w
    return w - rate * step, {"exp_avg": m, "exp_avg_sq": v}


class ReferenceTrainer:
    """As `resattn.training.trainer.Trainer`, for one batch at a time, in float64.

    arrays, moments: by canonical name. shards: how each batch is divided, which matters for local
    statistics.

    free: the parameters whose gradient is exactly zero whatever the data, and the running means
    that they are part of, as the last step showed.
    magnitude: the greatest logit of the last step, which rounding errors of the loss are relative
    to: a small loss is what is left of a difference of logits.
    """

    def __init__(
        self,
        config: Config,
        arrays: Mapping[str, Array],
        recipe: Recipe,
        shards: Shards | None = None,
    ):
        self.config, self.recipe, self.step = config, recipe, 0
        self.shards = Shards() if shards is None else shards
        self.arrays: Arrays = {name: array.astype(np.float64) for name, array in arrays.items()}
        self.trained = [p.name for p in schema(config) if p.trainable]
        self.moments: dict[str, Arrays] = {
            moment: {name: np.zeros_like(self.arrays[name]) for name in self.trained}
            for moment in recipe.optimizer.moments
        }
        self.free: frozenset[str] = frozenset()
        self.magnitude = 0.0

    def train_step(self, images: Array, labels: Array, kinks: Kinks | None = None) -> float:
        """One update on a batch; the loss before it. kinks: of the pass, see `evaluation.run`."""
        loss, outcome = self._passed(images, labels, kinks)
        self.arrays |= outcome.statistics
        self.free = outcome.vanishing | outcome.shifted
        given, now = self.recipe.optimizer, rate(self.recipe, self.step)
        self.step += 1
        for name in self.trained:
            w, g = self.arrays[name], outcome.gradients[name]
            moments = {moment: held[name] for moment, held in self.moments.items()}
            if isinstance(given, SGD):
                w, moments = sgd(given, now, w, g, moments)
            else:
                w, moments = adam(
                    given, now, self.step, w, g, moments, decoupled=isinstance(given, AdamW)
                )
            self.arrays[name] = w
            for moment, value in moments.items():
                self.moments[moment][name] = value
        return loss

    def _passed(
        self, images: Array, labels: Array, kinks: Kinks | None
    ) -> tuple[float, reference.Pass]:
        losses = []

        def slope(output: Array) -> Array:
            logits = output if output.ndim == 2 else output.mean(axis=(2, 3))
            loss, slopes = cross_entropy(logits, labels, self.recipe.label_smoothing)
            losses.append(loss)
            self.magnitude = float(np.abs(logits).max())
            if output.ndim == 2:
                return slopes
            positions = output.shape[2] * output.shape[3]
            return np.broadcast_to(slopes[:, :, None, None] / positions, output.shape)

        outcome = reference.run(
            self.config,
            self.arrays,
            images,
            slope,
            training=True,
            kinks=kinks,
            parts=local_parts(self.shards.divide(len(images))),
        )
        return losses[0], outcome
