"""FSDP2: weights, gradients and optimiser state cut over the processes, and put together again where they are written.

Each decoder block is one unit that is gathered for its own computation; the rest (embedding, final norm, head, the
projector) is one unit that stays gathered during a step. The projector is sharded like everything else: it is small, but
one kind of parameter means one way to clip, save and load.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor

from arra_med.errors import ConfigError, TrainingError


def check_sharding(device: str, processes: int) -> None:
    """Checks that FSDP2 can be used here.

    Raises:
        ConfigError: If there is no CUDA device, where accelerate ignores FSDP, or only one process.
    """
    if device != "cuda" or processes < 2:
        raise ConfigError(
            f"sharding is fsdp2 with {processes} process(es) on {device}; it needs several processes with a CUDA device "
            "each: start with torchrun --nproc-per-node and the number of GPUs, or set sharding to none"
        )


def fsdp2_settings() -> dict[str, Any]:
    """Returns the arguments of `transformers.TrainingArguments` that turn on accelerate's FSDP2 plugin."""
    return {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "reshard_after_forward": True,
            "state_dict_type": "FULL_STATE_DICT",
        },
    }


def set_units_and_precision(arguments: Any, block: type[nn.Module]) -> None:
    """Tells the plugin what the model at hand is cut into, and in which precision it computes.

    With `bf16` the weights are gathered in bfloat16 and gradients are added up in float32; accelerate's own policy would
    round the sums of gradients, and the losses that leave the model, to bfloat16 too.

    Args:
        arguments: `transformers.TrainingArguments` made with `fsdp2_settings`; changed in place.
        block: Class of the decoder blocks.
    """
    arguments.fsdp_plugin_args["transformer_cls_names_to_wrap"] = [block.__name__]
    if arguments.bf16:
        arguments.fsdp_plugin_args["mixed_precision_policy"] = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )


def skeleton(model: nn.Module) -> nn.Module:
    """Returns a copy of a model that has not been sharded yet, with empty parameters on the `meta` device."""
    empty = {id(p): nn.Parameter(p.detach().to("meta"), requires_grad=p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, empty)


def filled(empty: Any, weights: Mapping[str, torch.Tensor]) -> Any:
    """Puts weights into a skeleton of a `transformers` model and returns it.

    Args:
        empty: What `skeleton` returned.
        weights: What `whole_weights` returned for the model itself, each tied weight under one of its names.
    """
    found: dict[int, torch.Tensor] = {}
    parameters = dict(empty.named_parameters(remove_duplicate=False))
    for name, parameter in parameters.items():
        if name in weights:
            found[id(parameter)] = weights[name]
    empty.load_state_dict(
        {name: found[id(parameters[name])] if name in parameters else weights[name] for name in empty.state_dict()},
        assign=True,
    )
    empty.tie_weights()
    return empty


def whole_weights(module: nn.Module, keep: bool, trained_alone: bool = False) -> dict[str, torch.Tensor]:
    """Returns the weights and saved buffers of a module, each once, put together from all shards, on the CPU.

    Args:
        module: Sharded or not. If sharded, every process has to call this.
        keep: Whether this process wants them; otherwise the answer is empty and no second copy is held.
        trained_alone: Whether to leave frozen weights out, which come from the start.
    """
    saved = _trained_tensors(module) if trained_alone else _saved_tensors(module)
    return {name: whole for name, tensor in saved if (whole := _whole(tensor, keep)) is not None}


def load_whole_weights(module: nn.Module, file: Path) -> None:
    """Loads a file of whole weights into a module, sharded or not; tied weights may have any of their names.

    Frozen weights may be left out.

    Raises:
        TrainingError: If the file holds other weights than the module.
    """
    targets = {**dict(module.named_parameters(remove_duplicate=False)), **_saved_buffers(module)}
    missing = {id(tensor): name for name, tensor in _trained_tensors(module)}
    with safe_open(str(file), "pt") as weights, torch.no_grad():
        for name in weights.keys():  # noqa: SIM118 - safetensors' file is no mapping
            target = targets.get(name)
            shape = list(weights.get_slice(name).get_shape())
            if target is None or list(target.shape) != shape:
                there = "no such weight" if target is None else f"one of shape {list(target.shape)}"
                raise _other_model(file, f"it holds {name} of shape {shape}, the model {there}")
            target.copy_(_like(weights.get_tensor(name), target))
            missing.pop(id(target), None)
    if missing:
        raise _other_model(file, f"the model has {next(iter(missing.values()))}, which it does not hold")


def whole_optimizer_state(optimizer: torch.optim.Optimizer, keep: bool) -> dict[str, Any]:
    """Returns an optimiser's `state_dict` with every tensor put together from all shards; arguments as `whole_weights`."""
    state = optimizer.state_dict()
    whole: dict[int, dict[str, Any]] = {}
    for number, values in state["state"].items():
        whole[number] = {
            name: _whole(value, keep) if isinstance(value, torch.Tensor) else value for name, value in values.items()
        }
    return {"state": whole, "param_groups": state["param_groups"]} if keep else {}


def load_whole_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Loads what `whole_optimizer_state` returned, cut as the parameters are cut."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    cut = {
        number: {
            name: _like(value, parameters[number])
            if isinstance(value, torch.Tensor) and value.shape == parameters[number].shape
            else value
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    optimizer.load_state_dict({"state": cut, "param_groups": state["param_groups"]})


def _saved_tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*module.named_parameters(), *_saved_buffers(module).items()]


def _trained_tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    frozen = {id(parameter) for parameter in module.parameters() if not parameter.requires_grad}
    return [(name, tensor) for name, tensor in _saved_tensors(module) if id(tensor) not in frozen]


def _saved_buffers(module: nn.Module) -> dict[str, torch.Tensor]:
    saved = module.state_dict().keys()
    return {name: buffer for name, buffer in module.named_buffers() if name in saved}


def _whole(tensor: torch.Tensor, keep: bool) -> torch.Tensor | None:
    whole = tensor.detach()
    if isinstance(whole, DTensor):
        whole = whole.full_tensor()
    return whole.cpu().contiguous() if keep else None


def _like(whole: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Returns this process's share of a whole tensor that all processes hold, cut as `target` is."""
    if not isinstance(target, DTensor):
        return whole
    whole = whole.to(target.device)
    return distribute_tensor(whole, target.device_mesh, target.placements, src_data_rank=None)


def _other_model(file: Path, difference: str) -> TrainingError:
    return TrainingError(
        f"{file.parent}: is the checkpoint of another model than this configuration builds ({difference}); choose "
        "another --out, or the configuration that the folder's config.yaml shows"
    )
