"""How much of a model is trained, on a BERT and a Llama of a few thousand numbers."""

import pytest
import torch

from zhiyin.domain.errors import ConfigError
from zhiyin.language.parameters import MethodConfig, trained_part

ADDING = ("lora", "adalora", "ia3")
TOKENS = torch.tensor([[1, 5, 7, 2], [1, 9, 4, 2]])


def bert():
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=12,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertModel(config, add_pooling_layer=False)


def llama():
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=12,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=32,
    )
    return LlamaModel(config)


MODELS = {"bert": bert, "llama": llama}


def states(network):
    return network(input_ids=TOKENS, attention_mask=torch.ones_like(TOKENS)).last_hidden_state


def taught(part, n_steps=12):
    """Pull one state towards a target, and say how the distance changed."""
    torch.manual_seed(1)
    target = torch.randn(2, 4, 16)
    optimizer = torch.optim.AdamW([p for p in part.network.parameters() if p.requires_grad], lr=0.02)
    distances = []
    for step in range(1, n_steps + 1):
        distance = ((states(part.network) - target) ** 2).mean()
        loss = distance if part.penalty is None else distance + part.penalty()
        loss.backward()
        optimizer.step()
        if part.after_step is not None:
            part.after_step(step)
        optimizer.zero_grad()
        distances.append(float(distance.detach()))
    return distances


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["full", "top", *ADDING])
def test_what_is_trained_moves_and_the_rest_stays(model, name):
    network = MODELS[model]()
    before = {key: weight.clone() for key, weight in network.state_dict().items()}
    n_all = sum(weight.numel() for weight in network.parameters())
    with torch.no_grad():
        said_before = states(network)
    part = trained_part(network, MethodConfig(name=name, top_layers=1, rank=2), n_steps=12)
    with torch.no_grad():  # additions change nothing until they are trained
        torch.testing.assert_close(states(network), said_before, rtol=1e-4, atol=1e-4)
    assert part.n_trained == n_all if name == "full" else part.n_trained < n_all / 2
    distances = taught(part)
    assert distances[-1] < distances[0]
    if name in ADDING:
        frozen = {key: weight for key, weight in network.named_parameters() if not weight.requires_grad}
        for key, weight in frozen.items():
            plain = key.replace("base_layer.", "")
            if plain in before:
                assert torch.equal(weight, before[plain])
    if name == "top":
        first = "encoder.layer.0" if model == "bert" else "layers.0"
        same = [
            torch.equal(weight, before[key]) for key, weight in network.state_dict().items() if first in key
        ]
        assert same
        assert all(same)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ADDING)
def test_what_was_learned_is_merged_into_the_weights(model, name):
    network = MODELS[model]()
    names = set(network.state_dict())
    part = trained_part(network, MethodConfig(name=name, rank=2), n_steps=12)
    taught(part)
    network.eval()
    with torch.no_grad():
        learned = states(network)
        part.merge()
        torch.testing.assert_close(states(network), learned, rtol=1e-3, atol=1e-4)
    assert set(network.state_dict()) == names


def test_adalora_takes_ranks_away():
    network = bert()
    part = trained_part(network, MethodConfig(name="adalora", rank=2), n_steps=40)
    taught(part, n_steps=40)
    kept = [int((weight != 0).sum()) for key, weight in network.named_parameters() if "lora_E" in key]
    assert sum(kept) == 2 * len(kept)
    assert len(set(kept)) > 1


def test_a_network_without_layers_is_refused():
    with pytest.raises(ConfigError, match="no stack of layers"):
        trained_part(torch.nn.Linear(2, 2), MethodConfig(name="lora"), n_steps=1)


def test_ia3_says_when_it_knows_no_keys():
    strange = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.Linear(4, 4)])})
    with pytest.raises(ConfigError, match="Choose 'lora'"):
        trained_part(strange, MethodConfig(name="ia3"), n_steps=1)
