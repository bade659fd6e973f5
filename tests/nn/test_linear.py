"""Linear layers with weights laid out for the CPU: the same results, by the weights as they are now."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from slap.inference.network_backend import NetworkBackend
from slap.model.network import Network
from slap.nn.linear import LARGE, Linear, prepack

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.fixture
def layer():
    torch.manual_seed(0)
    made = Linear(512, LARGE // 512)
    prepack(made)
    return made


def rows(count=33):
    return torch.randn(count, 512, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("shape", [(512,), (0, 512), (1, 512), (1000, 512), (3, 5, 512)])
def test_results_are_those_of_the_plain_layer(layer, shape):
    x = torch.randn(shape)
    with torch.no_grad():
        found = layer(x)
        assert layer._copy is not None
        torch.testing.assert_close(found, linear(x, layer.weight), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("how", ["in place", "assigned", "data", "loaded", "moved"])
def test_weights_that_change_after_all_count_at_once(layer, how):
    with torch.no_grad():
        before = layer(rows())
        if how == "in place":
            layer.weight.mul_(2)
        elif how == "assigned":
            layer.weight = nn.Parameter(2 * layer.weight)
        elif how == "data":
            layer.weight.data = 2 * layer.weight.data
        elif how == "loaded":
            layer.load_state_dict({"weight": 2 * layer.weight})
        else:
            layer.double().float().weight.mul_(2)
        torch.testing.assert_close(layer(rows()), 2 * before)


def test_the_second_copy_is_made_once(layer):
    with torch.no_grad():
        layer(rows())
        first = layer._copy[1]
        layer(rows(7))
    assert layer._copy[1] is first


def test_with_gradients_autocast_or_another_precision_it_is_the_plain_layer(layer):
    x = rows().requires_grad_()
    layer(x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.detach().sum(0).expand(LARGE // 512, 512))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert layer(rows()).dtype == torch.bfloat16
    with torch.no_grad():
        layer.double()(rows().double())
    assert layer._copy is None


def test_weights_made_in_inference_mode_work():
    with torch.inference_mode():
        made = Linear(512, 512)
        prepack(made)
        torch.testing.assert_close(made(rows()), linear(rows(), made.weight), rtol=1e-5, atol=1e-4)


def test_copies_and_files_hold_no_second_copy(layer):
    with torch.no_grad():
        expected = layer(rows())
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert other._copy is None
            assert other.prepacked
            torch.testing.assert_close(other(rows()), expected)
    assert [*layer.state_dict()] == ["weight"]


def test_small_layers_stay_as_they_are():
    small = Linear(512, LARGE // 512 - 1)
    prepack(small)
    with torch.no_grad():
        small(rows())
    assert small._copy is None


def test_a_loaded_model_is_prepacked_and_a_model_in_training_is_not():
    spec = {"name": "transformer", "size": "tiny"}
    for lent in (False, True):
        network = Network(spec, spec, {}).eval()
        NetworkBackend(network, {}, lent=lent)
        large = [part for part in network.modules() if isinstance(part, Linear) and part.weight.numel() >= LARGE]
        assert large
        assert all(part.prepacked is not lent for part in large)


def test_embeddings_are_those_of_the_plain_model():
    spec = {"name": "transformer", "size": "tiny"}
    model = NetworkBackend(Network(spec, spec, {}), {})
    clips = [torch.randn(count, generator=torch.Generator().manual_seed(count)) for count in (16000, 5000)]
    fast = model.encode_audio(clips)
    for part in model.network.modules():
        if isinstance(part, Linear):
            part.prepacked = False
    torch.testing.assert_close(fast, model.encode_audio(clips), rtol=0, atol=1e-6)
