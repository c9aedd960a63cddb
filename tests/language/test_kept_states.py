"""What the lower layers say is kept, and reading on from there is reading the whole."""

import numpy as np
import pytest
import torch

from zhiyin.language.kept_states import KeptStates, LayersBelow
from zhiyin.language.parameters import stack_of_layers
from zhiyin.testing.tiny_models import save_bert


@pytest.mark.parametrize("on_left", [False, True])
def test_states_come_back_where_they_were(on_left):
    lengths = np.array([2, 4, 1])
    kept = KeptStates.empty(lengths, 3, torch.float32, on_left=on_left)
    for rows in ([1, 2], [0]):
        longest = max(lengths[rows])
        states = torch.arange(longest).float()[None, :, None].repeat(len(rows), 1, 3)
        states += 10 * torch.tensor(rows)[:, None, None]
        kept.put(np.array(rows), states)
    padded = kept.padded(np.array([2, 0]))[..., 0]
    # On the left, padding pushed the one token of the last text to place 3 of its batch of length 4.
    assert padded.tolist() == ([[0, 23], [0, 1]] if on_left else [[20, 0], [0, 1]])


def test_reading_on_from_kept_states_is_reading_the_whole(tmp_path):
    from transformers import AutoModel

    save_bert(["red", "cream"], tmp_path, num_hidden_layers=3)
    network = AutoModel.from_pretrained(tmp_path).eval()
    tokens = torch.tensor([[1, 5, 4, 2], [1, 4, 2, 0]])
    given = {"input_ids": tokens, "attention_mask": (tokens > 0).long()}
    whole = network(**given).last_hidden_state
    below = LayersBelow(stack_of_layers(network, "tiny"), 2)
    with below.only() as found:
        network(**given)
    kept = KeptStates.empty(np.array([4, 3]), found[0].shape[2], torch.float32)
    kept.put(np.array([0, 1]), found[0])
    ran = []
    handle = stack_of_layers(network, "tiny")[1].attention.register_forward_hook(lambda *_: ran.append(1))
    with below.given(kept.padded(np.array([0, 1]))):
        again = network(**given).last_hidden_state
    assert not ran
    handle.remove()
    torch.testing.assert_close(again[0], whole[0])
    torch.testing.assert_close(again[1, :3], whole[1, :3])
    below.close()
    torch.testing.assert_close(network(**given).last_hidden_state, whole)
    assert all("forward" not in vars(layer) for layer in stack_of_layers(network, "tiny"))
