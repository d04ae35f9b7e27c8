"""Compiled and recomputed blocks: the same numbers, and a clear sentence where there is no compiler."""

import shutil
from typing import Any

import pytest
import torch

from arra_med.errors import ConfigError
from arra_med.training.blocks import compile_blocks, enable_gradient_checkpointing
from tests.training.test_task import ALIGNMENT, batch, task

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


def losses_and_gradients(subject: Any) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    losses = subject(**batch([10, 11, 12], [13]))
    losses["loss"].backward()
    return losses, [parameter.grad for parameter in subject.parameters()]


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("checkpointed", [False, True])
def test_compiled_blocks_give_the_same_losses_and_gradients(checkpointed: bool) -> None:
    torch._dynamo.reset()
    plain, compiled = task(ALIGNMENT).train(), task(ALIGNMENT).train()
    if checkpointed:
        enable_gradient_checkpointing(compiled.language_model)
    compile_blocks(compiled.language_model)
    torch._dynamo.utils.counters.clear()
    wanted, gradients = losses_and_gradients(plain)
    losses, found = losses_and_gradients(compiled)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # one graph for both blocks
    assert {name: float(value.detach()) for name, value in losses.items()} == pytest.approx(
        {name: float(value.detach()) for name, value in wanted.items()}, rel=1e-5
    )
    for ours, theirs in zip(found, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert compiled.state_dict().keys() == plain.state_dict().keys()


def test_without_a_compiler_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(ConfigError, match=r"torch.compile does not work here \(RuntimeError\).*apt-get install g\+\+"):
        compile_blocks(task().language_model)
