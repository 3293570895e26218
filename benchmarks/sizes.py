"""How much work each size means. `tiny` shows that everything runs; only `full` is what the bars speak of."""

from __future__ import annotations

from dataclasses import dataclass

N_CELLS = 128  # of a star: 18 bands and the coefficients


def mixture_size() -> tuple[int, int]:
    """(components, latent) of the mixture that a training on many stars takes by itself."""
    # Here, not above: torch would be in the memory of every process that is measured.
    from msacat.model.fit_mixture import default_size
    from msacat.model.train_config import TrainConfig

    return default_size(TrainConfig(steps=1).prior_stars, N_CELLS)


@dataclass(frozen=True)
class Size:
    """Rows by stage, and rounds: how often the sides take turns."""

    rounds: int
    numeric: int  # gaia_source rows of 13 columns
    published: int  # gaia_source rows of 152 columns
    xp: int  # spectra with correlations, some 30 kB of text each
    gaia: int  # crossmatch: stars
    survey: int  # crossmatch: objects of the survey
    stars: int  # stars of the store that is streamed, learned from and enriched; embeddings searched
    steps: int  # training steps timed
    batches: tuple[int, ...]  # stars a step: the default model's batch, the published runs' batch
    query_stars: int  # stars of the store that is asked
    repeats: int  # of a query
    measure_memory: bool


SIZES = {
    "tiny": Size(1, 2_000, 500, 20, 4_000, 2_000, 3_000, 2, (64,), 5_000, 5, False),
    "small": Size(3, 100_000, 20_000, 1_000, 100_000, 50_000, 50_000, 6, (256, 1024), 100_000, 50, True),
    "full": Size(
        3,
        2_000_000,
        300_000,
        10_000,
        2_000_000,
        1_000_000,
        1_000_000,
        10,
        (256, 1024),
        5_000_000,
        500,
        True,
    ),
}
