"""Loading weights that were saved when parts of a network had other names."""

from __future__ import annotations

from typing import Any

from torch import nn


def accept_old_names(network: nn.Module, renamed: dict[str, str]) -> None:
    """Let `load_state_dict` read weights whose parts have older names.

    renamed  old name of a part of `network` -> its name now; "look" stands for "look.weight", "look.bias" ...
    """

    def rename(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
        for old, new in renamed.items():
            for key in [k for k in state if k == prefix + old or k.startswith(f"{prefix}{old}.")]:
                state[prefix + new + key[len(prefix + old) :]] = state.pop(key)

    network.register_load_state_dict_pre_hook(rename)
