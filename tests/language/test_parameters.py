"""How much of a model is trained, on a BERT, a GPT-2 and a Llama of a few thousand numbers."""

import copy

import pytest
import torch

from zhiyin.domain.errors import ConfigError
from zhiyin.language.parameters import MethodConfig, trained_part

MERGED = ("lora", "adalora", "ia3")
BESIDE = ("adapter", "prefix", "prompt")
SILENT = (*MERGED, "adapter")
"""Change nothing until they are trained."""
TOKENS = torch.tensor([[1, 5, 7, 2], [1, 9, 4, 2]])
SIZES = {"rank": 2, "top_layers": 1, "bottleneck": 4, "virtual_tokens": 3}


def bert(**sizes):
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
        max_position_embeddings=10,
    )
    return BertModel(config, add_pooling_layer=False, **sizes)


def gpt2():
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    drops = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2Model(
        GPT2Config(
            vocab_size=12,
            n_embd=16,
            n_layer=3,
            n_head=2,
            n_inner=32,
            n_positions=10,
            bos_token_id=1,
            eos_token_id=2,
            **drops,
        )
    )


def llama():
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=12,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
    )
    return LlamaModel(config)


MODELS = {"bert": bert, "gpt2": gpt2, "llama": llama}


def prepared(model, name, n_steps=12, **sizes):
    network = MODELS[model]() if isinstance(model, str) else model
    torch.manual_seed(2)
    return trained_part(network, MethodConfig(name=name, **(SIZES | sizes)), n_steps)


def states(network, tokens=TOKENS, mask=None):
    mask = torch.ones_like(tokens) if mask is None else mask
    return network(input_ids=tokens, attention_mask=mask).last_hidden_state


def answer(network, *given):
    network.eval()
    with torch.no_grad():
        return states(network, *given)


def taught(part, n_steps=12):
    """Pull states towards a target, and say how the distance changed."""
    torch.manual_seed(1)
    target = torch.randn(2, 4, 16)
    optimizer = torch.optim.AdamW([p for p in part.network.parameters() if p.requires_grad], lr=0.02)
    part.network.train()
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
@pytest.mark.parametrize("name", ["full", "top", *MERGED, *BESIDE])
def test_what_is_trained_moves_and_the_rest_stays(model, name):
    network = MODELS[model]()
    before = {key: weight.clone() for key, weight in network.state_dict().items()}
    n_all = sum(weight.numel() for weight in network.parameters())
    said_before = answer(network)
    part = prepared(network, name)
    assert answer(network).shape == said_before.shape
    if name in SILENT:
        torch.testing.assert_close(answer(network), said_before, rtol=1e-4, atol=1e-4)
    assert part.n_trained == n_all if name == "full" else part.n_trained < n_all / 2
    distances = taught(part)
    assert distances[-1] < distances[0]
    trained = {key for key, weight in network.named_parameters() if weight.requires_grad}
    for key, weight in network.state_dict().items():
        plain = key.replace("base_layer.", "")
        if plain in before and key not in trained:
            assert torch.equal(weight, before[plain]), key
    if name == "top":
        bottom = {"bert": "encoder.layer.0", "gpt2": "h.0.", "llama": "layers.0"}[model]
        assert not any(key.startswith(bottom) for key in trained)


def test_frozen_leaves_everything_to_what_stands_on_it():
    part = prepared("bert", "frozen")
    assert part.n_trained == 0
    assert part.additions() == {}
    part.take({})


@pytest.mark.parametrize(
    ("model", "n_read_and_written", "n_keys"),
    [("bert", 4 * 32 + 2 * 48, 16), ("gpt2", 64 + 32 + 2 * 48, 16), ("llama", 2 * 32 + 2 * 24 + 3 * 48, 8)],
)
def test_trained_numbers_are_counted(model, n_read_and_written, n_keys):
    assert prepared(model, "lora").n_trained == 3 * 2 * n_read_and_written
    assert prepared(model, "adapter").n_trained == 3 * (2 * 16 * 4 + 4 + 16)
    assert prepared(model, "prefix").n_trained == 3 * 2 * 3 * n_keys
    assert prepared(model, "prompt").n_trained == 3 * 16


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", [*MERGED, *BESIDE])
def test_every_trained_number_gets_gradients(model, name):
    part = prepared(model, name)
    taught(part, n_steps=2)  # what begins at zero lets gradients through to its other half after a step
    (states(part.network) ** 2 * torch.randn(16)).sum().backward()
    for key, weight in part.network.named_parameters():
        assert (weight.grad is not None) == weight.requires_grad, key
        if weight.requires_grad:
            assert float(weight.grad.abs().max()) > 0, key


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", [*MERGED, *BESIDE])
def test_padding_and_later_words_change_nothing(model, name, attention):
    part = prepared(model, name)
    taught(part, n_steps=2)
    part.network.set_attn_implementation(attention)
    short = answer(part.network, TOKENS[:1, :3])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    padded = answer(part.network, TOKENS, mask)
    torch.testing.assert_close(padded[:1, :3], short, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        unmasked = part.network(input_ids=TOKENS[:1, :3]).last_hidden_state
    torch.testing.assert_close(unmasked, short, rtol=1e-4, atol=1e-4)
    if model != "bert":
        whole = answer(part.network, TOKENS[:1])
        torch.testing.assert_close(whole[:, :3], short, rtol=1e-4, atol=1e-4)
    if model == "llama" or (model == "gpt2" and name in {"prefix", "prompt"}):  # GPT-2 counts padding
        left = torch.cat([torch.zeros(1, 2, dtype=torch.long), TOKENS[:1, :3]], dim=1)
        seen = torch.tensor([[0, 0, 1, 1, 1]])
        torch.testing.assert_close(answer(part.network, left, seen)[:, 2:], short, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", [*MERGED, *BESIDE])
def test_memory_and_precision_can_be_saved_while_training(model, name):
    part = prepared(model, name)
    taught(part, n_steps=2)
    part.network.train()
    wanted = torch.randn(2, 4, 16)

    def gradients():
        part.network.zero_grad()
        (states(part.network).float() * wanted).sum().backward()
        return torch.cat([w.grad.reshape(-1) for w in part.network.parameters() if w.requires_grad])

    whole = gradients()
    with torch.autocast("cpu", torch.bfloat16):
        half = gradients()
    assert float(torch.nn.functional.cosine_similarity(whole, half, dim=0)) > 0.98
    part.network.activation_checkpointing_enable({"use_reentrant": False})
    torch.testing.assert_close(gradients(), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["full", "top", *MERGED, *BESIDE])
def test_a_fresh_network_takes_over_what_was_trained(model, name):
    part = prepared(model, name)
    taught(part)
    saved = part.additions()
    assert sum(weight.numel() for weight in saved.values()) == part.n_trained
    torch.manual_seed(9)
    fresh = trained_part(MODELS[model](), MethodConfig(name=name, **SIZES), 12)
    assert not torch.allclose(answer(fresh.network), answer(part.network), atol=1e-3)
    fresh.take(saved)
    assert torch.equal(answer(fresh.network), answer(part.network))
    with pytest.raises(ConfigError, match="does not fit"):
        fresh.take(dict(list(saved.items())[1:]))


def test_another_size_is_not_taken():
    saved = prepared("bert", "adapter").additions()
    with pytest.raises(ConfigError, match=r"bottleneck.*is \(4,\), but \(8,\) is expected; 9 differ"):
        prepared("bert", "adapter", bottleneck=8).take(saved)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", MERGED)
def test_what_was_learned_is_merged_into_the_weights(model, name):
    network = MODELS[model]()
    names = set(network.state_dict())
    part = prepared(network, name)
    taught(part)
    learned = answer(network)
    assert part.can_merge
    part.merge()
    torch.testing.assert_close(answer(network), learned, rtol=1e-3, atol=1e-4)
    assert set(network.state_dict()) == names
    assert part.additions() == {}


@pytest.mark.parametrize("name", BESIDE)
def test_what_no_weight_could_take_in_stays_beside_the_network(name):
    part = prepared("bert", name)
    taught(part)
    learned = answer(part.network)
    assert not part.can_merge
    part.merge()
    assert torch.equal(answer(part.network), learned)
    assert torch.equal(answer(copy.deepcopy(part.network)), learned)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("model", ["gpt2", "llama"])
@pytest.mark.parametrize("name", ["prefix", "prompt"])
def test_a_text_is_read_word_by_word_as_it_is_read_at_once(model, name, told):
    part = prepared(model, name)
    taught(part, n_steps=2)
    network = part.network.eval()
    tokens, remembered, said = TOKENS[:1], None, []
    with torch.no_grad():
        for n in range(1, 5):
            out = network(
                input_ids=tokens[:, n - 1 : n],
                attention_mask=torch.ones(1, n, dtype=torch.long) if told else None,
                past_key_values=remembered,
                use_cache=True,
            )
            remembered = out.past_key_values
            said.append(out.last_hidden_state)
    torch.testing.assert_close(torch.cat(said, dim=1), answer(network, tokens), rtol=1e-4, atol=1e-4)


def test_what_a_prompt_says_is_in_no_part_of_the_answer():
    from transformers import BertModel

    network = BertModel(bert().config).eval()
    prepared(network, "prompt")
    with torch.no_grad():
        out = network(input_ids=TOKENS, token_type_ids=torch.ones_like(TOKENS), output_hidden_states=True)
        pooled = network.pooler(out.last_hidden_state)
    assert {layer.shape for layer in out.hidden_states} == {out.last_hidden_state.shape}
    assert torch.equal(out.pooler_output, pooled)


def test_a_text_with_its_prompt_must_fit_the_table_of_positions():
    network = prepared("bert", "prompt").network
    assert answer(network, torch.ones(1, 7, dtype=torch.long)).shape == (1, 7, 16)
    with pytest.raises(ConfigError, match="8 tokens and 3 virtual ones are more than the 10"):
        answer(network, torch.ones(1, 8, dtype=torch.long))


def test_adalora_takes_ranks_away():
    part = prepared("bert", "adalora", n_steps=40)
    taught(part, n_steps=40)
    kept = [int((weight != 0).sum()) for key, weight in part.network.named_parameters() if "lora_E" in key]
    assert sum(kept) == 2 * len(kept)
    assert len(set(kept)) > 1


@pytest.mark.parametrize("name", ["lora", "adapter", "prefix", "prompt"])
def test_a_network_without_layers_is_refused(name):
    with pytest.raises(ConfigError, match="no stack of layers"):
        prepared(torch.nn.Linear(2, 2), name)


@pytest.mark.parametrize("name", ["ia3", "adapter", "prefix", "prompt"])
def test_a_network_of_another_kind_is_refused_with_what_would_do(name):
    strange = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.Linear(4, 4)])})
    with pytest.raises(ConfigError, match=r"Choose .*'lora'"):
        prepared(strange, name)


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_added_is_added_once(name):
    network = prepared("bert", name).network
    with pytest.raises(ConfigError, match="has additions already"):
        prepared(network, name)


def test_an_encoder_whose_attention_takes_no_keys_is_refused():
    from transformers import DistilBertConfig, DistilBertModel

    network = DistilBertModel(DistilBertConfig(vocab_size=12, dim=16, n_layers=2, n_heads=2, hidden_dim=32))
    with pytest.raises(ConfigError, match="DistilBertModel has none"):
        prepared(network, "prefix")
