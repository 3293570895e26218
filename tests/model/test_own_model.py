"""The model as a method of the evaluation, without a store."""

import numpy as np
import torch

from msacat.model.evaluate.opponents.own_model import OwnModel
from msacat.model.predict_stars import StarModel
from msacat.model.star_network import StarNetwork
from msacat.model.train_autoencoder import train


class _OnGpu:
    """A tensor that, like one on CUDA, is no numpy array before it is copied to the CPU."""

    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor

    def cpu(self) -> torch.Tensor:
        return self.tensor

    def numpy(self):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def test_the_shares_of_wrong_measurements_are_read_off_a_gpu(sky, stream_of, quick, tmp_path, monkeypatch):
    train(stream_of(sky.features, sky.stars), tmp_path / "m", quick)
    own = OwnModel(StarModel.load(tmp_path / "m", "cpu"), "x")
    stars = sky.stars.take(np.arange(50))
    own.fit(stars, stars, sky.features, "", 0)
    on_cpu, shares = own.predict(stars), StarNetwork.wrong_shares
    monkeypatch.setattr(StarNetwork, "wrong_shares", lambda network: _OnGpu(shares(network)))
    on_gpu = own.predict(stars)
    np.testing.assert_array_equal(on_gpu.wrong_M, on_cpu.wrong_M)
    np.testing.assert_array_equal(on_gpu.wrong_K, on_cpu.wrong_K)
