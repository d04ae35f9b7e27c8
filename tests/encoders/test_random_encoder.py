from pathlib import Path

import torch

from arra_med.encoders import load_encoder


def test_a_random_teacher_has_the_shapes_of_the_encoder_and_none_of_its_weights(open_clip_folder: Path) -> None:
    learned = load_encoder(str(open_clip_folder))
    random = load_encoder(f"random:{open_clip_folder}")
    assert random.name == f"random:{learned.name}"
    assert random.preprocessing == learned.preprocessing
    assert random.fingerprint != learned.fingerprint
    for (name, before), (_, after) in zip(
        learned.network.named_parameters(), random.network.named_parameters(), strict=True
    ):
        assert before.shape == after.shape
        if before.ndim > 1:
            assert not torch.equal(before, after), name
            assert torch.isfinite(after).all()
            assert float(after.std()) > 0, name
            correlation = torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1]
            assert abs(float(correlation)) < 5 / before.numel() ** 0.5, name


def test_every_load_gives_the_same_random_teacher_and_the_callers_generator_is_left_alone(timm_folder: Path) -> None:
    torch.manual_seed(7)
    wanted = torch.rand(1)
    torch.manual_seed(7)
    first = load_encoder(f"random:timm:{timm_folder}")
    assert torch.equal(torch.rand(1), wanted)
    assert load_encoder(f"random:timm:{timm_folder}").fingerprint == first.fingerprint


def test_running_statistics_are_forgotten_too() -> None:
    random = load_encoder("random:efficientnet_lite0")
    state = random.network.state_dict()
    means = [value for name, value in state.items() if name.endswith("running_mean")]
    assert means
    assert all(not value.any() for value in means)
