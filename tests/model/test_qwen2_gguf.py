"""Reading weights without their own library, as the Python that writes models for llama.cpp does."""

from __future__ import annotations

import numpy as np

from connectors.reasoners.embedded_model import embedded_settings
from connectors.reasoners.weights import find
from tests.support.extras import need_model_extra
from tests.support.qwen2_gguf import tensors

need_model_extra()


def test_weights_of_16_bits_are_read_as_their_own_library_reads_them():
    from safetensors.torch import load_file

    path = find(embedded_settings()) / "model.safetensors"
    ours, theirs = dict(tensors(path)), load_file(path)
    assert ours.keys() == theirs.keys()
    for name, weights in theirs.items():
        np.testing.assert_array_equal(ours[name], weights.float().numpy(), strict=True)
