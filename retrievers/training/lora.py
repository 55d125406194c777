"""Low-rank changes of an encoder (LoRA, arXiv 2106.09685), merged into plain weights at the end.

The linear maps of the attention are adapted, by a rank-``r`` product scaled by ``2r/r = 2``. What
is saved is an ordinary model that loads without peft.
"""

from typing import Any

from ...core.errors import BackendUnavailable, ConfigError

_INSTALL = 'pip install "retrail[lora]"'
_ATTENTION = ("attention", "attn")
"""What names of attention modules contain, in BERT and its kin."""


def add_lora(model: Any, rank: int) -> None:
    """Freeze a bi-encoder and put adapters of a rank beside its attention's linear maps.

    Args:
        model: A sentence-transformers bi-encoder.
        rank: Of the adapters; alpha is twice as much.

    Raises:
        BackendUnavailable: peft is not installed.
        ConfigError: The model has no linear maps that are named as an attention's.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise BackendUnavailable("peft is not installed", install_hint=_INSTALL) from error
    from torch import nn

    names = [
        name
        for name, module in model.transformers_model.named_modules()
        if isinstance(module, nn.Linear) and any(part in name for part in _ATTENTION)
    ]
    if not names:
        raise ConfigError("the encoder has no attention that LoRA could adapt", fix="use lora = 0")
    model.add_adapter(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names))


def merge_lora(model: Any) -> None:
    """Add the adapters of a model to its weights and leave the modules that it had before."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    inner = model.transformers_model
    adapted = [(n, m) for n, m in inner.named_modules() if isinstance(m, BaseTunerLayer)]
    for name, module in adapted:
        module.merge()
        inner.set_submodule(name, module.get_base_layer())
    inner._hf_peft_config_loaded = False  # else only the adapters would be saved
    inner.requires_grad_(True)
