"""Supervised regression, one model a target: what one would write for one question about one kind of star.

Inputs: every band and coefficient the regime leaves (scaled as for the product's own model). Targets: each band it
hides, or [Fe/H]. Too costly for every band of a sky; for real stars with few targets.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.evaluate.guess import Guess, Method
from msacat.model.evaluate.regimes import cases, fe_h_of
from msacat.model.scale_features import FeatureScaling, fit_scaling
from msacat.model.train_config import learning_rate_factor

FE_H = "fe_h"
XGBOOST = {"eta": 0.04, "max_depth": 6, "min_child_weight": 5, "subsample": 0.8, "colsample_bytree": 0.5, "lambda": 1.0,
           "objective": "reg:squarederror", "tree_method": "hist", "nthread": 1}  # fmt: skip
WARMUP = 0.1  # of the steps of the network's training
Predict = Callable[[np.ndarray], np.ndarray]


class DirectRegression(Method):
    """Fits `regress` to training stars masked as test stars are; calibration stars say when to stop."""

    per_regime = True
    labels = True

    def fit(
        self, train: StarBlock, calibrate: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> None:
        self.scaling = fit_scaling(features, train, background=False)
        self.models: dict[str, Predict] = {}
        learned, chosen = (self._targets(part, features, regime, seed) for part in (train, calibrate))
        for target, (x, y) in learned.items():
            if target in chosen and len(y) >= 100 and len(chosen[target][1]):
                self.models[target] = self.regress(x, y, *chosen[target], seed)

    def predict(self, block: StarBlock) -> Guess:
        x, norm = _inputs(self.scaling, block)
        M = self.scaling.n_bands
        value = np.full((len(block), M), np.nan)
        fe_h = None
        for target, model in self.models.items():
            if target == FE_H:
                fe_h = model(x)
            else:
                value[:, self.scaling.features.band_names.index(target)] = model(x)
        return Guess(self.scaling.magnitudes(value, norm), np.full(block.xp_BK.shape, np.nan), fe_h_B=fe_h)

    def regress(
        self, x: np.ndarray, y: np.ndarray, x_choose: np.ndarray, y_choose: np.ndarray, seed: int
    ) -> Predict:
        """Learn y (N,) from x (N, columns), NaN = missing; stop by x_choose, y_choose."""
        raise NotImplementedError

    def _targets(
        self, stars: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Inputs and values of each target: scaled colours, [Fe/H] in dex."""
        found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for case in cases(stars, features, regime, seed):
            x, _ = _inputs(self.scaling, case.block)
            own = stars.take(case.row_B)
            if case.asked_fe_h_B.any():
                found[FE_H] = x[case.asked_fe_h_B], fe_h_of(own, features)[0][case.asked_fe_h_B]
            value = self.scaling.encode(own).value_BD
            for m in np.flatnonzero(case.asked_BM.any(0)):
                use = case.asked_BM[:, m]
                found[features.band_names[m]] = x[use], np.asarray(value[use, m], float)
        return found


def _inputs(scaling: FeatureScaling, block: StarBlock) -> tuple[np.ndarray, np.ndarray]:
    cells = scaling.encode(block)
    return np.where(cells.observed_BD, cells.value_BD, np.nan).astype(np.float32), cells.norm_B


class XGBoost(DirectRegression):
    """Gradient-boosted trees, missing values native."""

    name = "xgboost"
    rounds, patience = 1500, 50

    def settings(self) -> dict:
        return {"rounds": self.rounds, "patience": self.patience, **XGBOOST}

    def regress(self, x, y, x_choose, y_choose, seed) -> Predict:
        import xgboost

        low, high = np.quantile(y, [0.001, 0.999])
        learn, choose = (
            xgboost.DMatrix(x, np.clip(y, low, high)),
            xgboost.DMatrix(x_choose, np.clip(y_choose, low, high)),
        )
        model = xgboost.train(
            {**XGBOOST, "seed": seed}, learn, self.rounds, evals=[(choose, "choose")],
            early_stopping_rounds=self.patience, verbose_eval=False,
        )  # fmt: skip
        best = (0, model.best_iteration + 1)
        return lambda new: model.predict(xgboost.DMatrix(new), iteration_range=best).astype(float)


class ResidualMlp(DirectRegression):
    """A residual network of the usual kind: presence as further inputs, early stopping."""

    name = "mlp"
    width, blocks, dropout = 256, 3, 0.1
    epochs, batch, learning_rate, weight_decay = 30, 512, 2e-3, 1e-2

    def settings(self) -> dict:
        return {name: getattr(self, name)
                for name in ("width", "blocks", "dropout", "epochs", "batch", "learning_rate", "weight_decay")}  # fmt: skip

    def regress(self, x, y, x_choose, y_choose, seed) -> Predict:
        torch.manual_seed(seed)
        centre, scale = float(np.median(y)), float(np.std(y))
        design, design_choose = _with_presence(x), _with_presence(x_choose)
        target = torch.from_numpy(((y - centre) / scale).astype(np.float32))
        target_choose = torch.from_numpy(((y_choose - centre) / scale).astype(np.float32))
        net = _Network(design.shape[1], self.width, self.blocks, self.dropout)
        steps = max(1, self.epochs * (len(y) // self.batch))
        optimizer = torch.optim.AdamW(net.parameters(), self.learning_rate, weight_decay=self.weight_decay)
        generator = torch.Generator().manual_seed(seed)
        best, kept = float("inf"), {k: v.clone() for k, v in net.state_dict().items()}
        step = 0
        for _ in range(self.epochs):
            net.train()
            for rows in torch.randperm(len(y), generator=generator).split(self.batch):
                if len(rows) < self.batch and len(y) >= self.batch:
                    continue
                step += 1
                optimizer.param_groups[0]["lr"] = self.learning_rate * learning_rate_factor(
                    step / steps, WARMUP
                )
                loss = nn.functional.smooth_l1_loss(net(design[rows]), target[rows], beta=0.3)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
            net.eval()
            with torch.inference_mode():
                off = float((net(design_choose) - target_choose).abs().mean())
            if off < best:
                best, kept = off, {k: v.clone() for k, v in net.state_dict().items()}
        net.load_state_dict(kept)
        net.eval()

        def predict(new: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return net(_with_presence(new)).double().numpy() * scale + centre

        return predict


def _with_presence(x: np.ndarray) -> torch.Tensor:
    seen = np.isfinite(x)
    return torch.from_numpy(
        np.concatenate([np.clip(np.nan_to_num(x), -8, 8), seen], axis=1).astype(np.float32)
    )


class _Network(nn.Module):
    def __init__(self, inputs: int, width: int, blocks: int, dropout: float):
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout),
                          nn.Linear(width, width))
            for _ in range(blocks)
        )  # fmt: skip
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = h + block(h)
        return self.last(h)[:, 0]
