"""An adversary on the words of a transformer whose own weights are frozen."""

import pytest
import torch
from transformers import AutoModel

from zhiyin.language.parameters import MethodConfig, trained_part
from zhiyin.testing.tiny_models import save_bert
from zhiyin.training.adversarial import Adversary
from zhiyin.training.settings import AdversaryConfig

TOKENS = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]])
IS_TOKEN = (TOKENS != 0).long()


@pytest.mark.parametrize("name", ["fgm", "pgd"])
def test_words_of_an_adapted_model_are_attacked_with_and_without_checkpointing(tmp_path, name):
    save_bert(["red", "lotion", "cream", "poem"], tmp_path, initializer_range=0.3)
    found = []
    for checkpointing in (False, True):
        network = AutoModel.from_pretrained(
            tmp_path, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
        )
        lookup = network.get_input_embeddings()
        torch.manual_seed(0)
        trained_part(network, MethodConfig(name="lora", rank=2), 4)
        if checkpointing:
            network.gradient_checkpointing_enable({"use_reentrant": False})
        network.train()
        before = lookup.weight.clone()
        adversary = Adversary(AdversaryConfig(name=name, radius=0.1, n_steps=2), lookup)
        losses = []
        with adversary.attack() as attack:
            for step in range(attack.n_steps + 1):
                if step:
                    attack.move()
                states = network(input_ids=TOKENS, attention_mask=IS_TOKEN).last_hidden_state
                loss = (states * IS_TOKEN[:, :, None]).sum(dim=1)[:, 0].square().sum()
                loss.backward()
                losses.append(loss.item())
        assert losses == sorted(losses)
        assert losses[-1] > 1.01 * losses[0]
        assert not lookup.weight.requires_grad
        assert torch.equal(lookup.weight, before)
        (nudge,) = attack.nudges
        assert (nudge[IS_TOKEN == 0] == 0).all()
        lengths = (before[TOKENS] * IS_TOKEN[:, :, None]).flatten(start_dim=1).norm(dim=1)
        shares = nudge.detach().flatten(start_dim=1).norm(dim=1) / lengths
        assert (shares <= 0.1 + 1e-6).all()
        assert (shares > 0.09).all()
        found.append(nudge.detach())
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
