"""Find, load and describe a causal language model."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors import SafetensorError
from torch import nn

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.architecture import refuse_config, refuse_modules
from steer_heal_love.lm.model.fingerprint import revision_of
from steer_heal_love.lm.model.four_bits import NF4_BITS, in_four_bits
from steer_heal_love.lm.model.quiet import first_line, quiet_transformers
from steer_heal_love.lm.model.sources import ALIAS, ALIAS_HUB_ID, resolve
from steer_heal_love.lm.model.split import device_map, device_of, devices_of
from steer_heal_love.lm.model.team import Team
from steer_heal_love.lm.model.template import ChatTemplate
from steer_heal_love.lm.model.template_check import read_template
from steer_heal_love.lm.model.token_counter import TokenCounter
from steer_heal_love.lm.model.weights import read_weights
from steer_heal_love.maths.head import Head

DType = Literal["auto", "bfloat16", "float16", "float32"]
Quantize = Literal["none", "4bit"]

_LAYER_LIST_NAMES = ("layers", "h", "blocks")
_POSITION_SETTINGS = ("max_position_embeddings", "max_seq_len", "max_sequence_length")
_POSITIONS = re.compile(r"(^|\.)(wpe|embed_positions|position_embeddings?|pos_embed\w*)$")


@dataclass(frozen=True)
class ModelIdentity:
    """What model this is: the name that loads it again, and the hash or revision that pins it."""

    name: str
    source: str  # the hub id, or the path as it was given
    revision: str  # sha256:… of the weights of a local model, the commit of a hub model
    dtype: str
    parameters: int
    template: str = ""  # sha256:… of the chat template


@dataclass(frozen=True)
class LanguageModel:
    """A frozen base model with the parts that the rest of the package needs, found once."""

    model: Any  # transformers.PreTrainedModel, in eval mode, no gradient on any parameter
    tokenizer: Any  # transformers.PreTrainedTokenizerBase
    decoder: nn.Module  # token ids to the final, normed hidden state
    layers: nn.ModuleList  # the decoder layers
    head: Head
    stop_ids: frozenset[int]
    pad_id: int
    identity: ModelIdentity
    template: ChatTemplate
    # Switches of the patches that are on now; `adapters.base` turns them off for a while.
    patches: list[Any] = field(default_factory=list, repr=False, compare=False)
    # Copies of weights in another layout, by the weight's id; see `lm/patches/packed.py`.
    packs: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)
    # Rows that are generated at a time, unless a call says otherwise.
    rows: int = field(default=64, repr=False, compare=False)
    # What it was put to.
    token_counter: TokenCounter = field(default_factory=TokenCounter, repr=False, compare=False)
    # Who computes what of many rows; see `lm/model/team.py`.
    team: Team = field(default=Team(), repr=False, compare=False)

    @property
    def device(self) -> torch.device:
        """Where token ids go in and logits come out; of all weights, unless layers are apart."""
        return self.head.weight.device

    @property
    def devices(self) -> list[torch.device]:
        """All that hold weights, `device` first."""
        return list(dict.fromkeys([self.device, *map(device_of, self.layers)]))

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype."""
        return self.head.weight.dtype

    @property
    def max_positions(self) -> int:
        """The longest sequence that the model's position encoding is made for, tokens."""
        config = self.model.config.get_text_config()
        said = [int(getattr(config, name, None) or 1 << 30) for name in _POSITION_SETTINGS]
        return min([*said, *map(_learnt_positions, self._position_tables)])

    @cached_property
    def _position_tables(self) -> list[nn.Embedding]:
        tables = self.decoder.named_modules()
        return [m for n, m in tables if isinstance(m, nn.Embedding) and _POSITIONS.search(n)]

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding: ids from there on are nothing to the model."""
        return int(self.model.get_input_embeddings().weight.shape[0])


def default_device() -> torch.device:
    """CUDA where there is a device, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it natively, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float32
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def load_model(
    spec: str = ALIAS,
    *,
    device: str = "auto",
    dtype: DType = "auto",
    quantize: Quantize = "none",
    trust_remote_code: bool = False,
    date: datetime.date | None = None,
) -> LanguageModel:
    """Load a chat model: the alias `smollm2`, a hub id, a local folder, or a `.gguf` file.

    Weights are read from safetensors (or GGUF) only, never from pickles.

    Args:
        device: `auto`, or as torch calls it; `cuda:0,cuda:1` shares the layers out to these
            devices in turn, by the memory that is free there, and the first has the rest.
        date: that a chat template with a clock shows; today's unless given.

    Raises:
        ModelError: the model is missing, is no decoder that this package knows, has no chat
            template or one that cannot be used, or does not fit; the message says what to do.

    Examples:
        >>> import steer_heal_love as shl
        >>> lm = shl.load_model("smollm2", dtype="float32")
        >>> lm.identity.name, lm.identity.dtype
        ('smollm2', 'float32')
    """
    devices = [default_device()] if device == "auto" else devices_of(device)
    where = devices[0]
    torch_dtype = default_dtype(where) if dtype == "auto" else getattr(torch, dtype)
    folder, name = resolve(spec)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    placed = in_four_bits(where, torch_dtype) if quantize == "4bit" else {}
    with quiet_transformers():
        revision = revision_of(folder)
        if not Path(folder).is_dir() and revision != "unknown":
            options["revision"] = revision  # all files of one commit, that which is noted
        try:
            refuse_config(transformers.AutoConfig.from_pretrained(folder, **options), name)
            if len(devices) > 1:
                placed["device_map"] = _shared_out(folder, devices, torch_dtype, quantize, options)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
            template = find_template(tokenizer, name, date)
            model = read_weights(spec, folder, dtype=torch_dtype, **placed, **options)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
            raise ModelError(_load_failure(spec, error)) from error
    # The cache's path would tell the home folder of whoever made a run: the hub id names the alias.
    source = ALIAS_HUB_ID if spec == ALIAS else spec
    return describe(
        model if placed else model.to(where),
        tokenizer,
        name=name,
        source=source,
        revision=revision,
        template=template,
    )


def _shared_out(
    folder: str,
    devices: list[torch.device],
    dtype: torch.dtype,
    quantize: Quantize,
    options: dict[str, Any],
) -> dict[str, torch.device]:
    """Which module of the model goes to which device."""
    config = transformers.AutoConfig.from_pretrained(folder, **options)
    with torch.device("meta"):
        shapes = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, **options)
    layers = find_layers(find_decoder(shapes, folder), folder)
    bits = NF4_BITS if quantize == "4bit" else None
    return device_map(shapes, layers, devices, dtype.itemsize, bits)


def load_tokenizer(spec: str, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model, without its weights.

    Raises:
        ModelError: as `load_model`.
    """
    return _read(transformers.AutoTokenizer, spec, trust_remote_code)


def load_config(spec: str, *, trust_remote_code: bool = False) -> Any:
    """The transformers configuration of a model; its `dtype` is that of the stored weights.

    Raises:
        ModelError: as `load_model`.
    """
    return _read(transformers.AutoConfig, spec, trust_remote_code)


def _read(auto_class: Any, spec: str, trust_remote_code: bool) -> Any:
    source, _ = resolve(spec)
    with quiet_transformers():
        try:
            return auto_class.from_pretrained(source, trust_remote_code=trust_remote_code)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelError(_load_failure(spec, error)) from error


def describe(
    model: Any,
    tokenizer: Any,
    *,
    name: str = "in-memory",
    source: str = "in-memory",
    revision: str = "unknown",
    template: ChatTemplate | None = None,
) -> LanguageModel:
    """Wrap a transformers model and its tokenizer; freezes the model's parameters.

    Args:
        template: the tokenizer's, where it was read before.

    Raises:
        ModelError: no chat template, or one that cannot be used; no decoder stack, or a head that
            is not `h @ W.T + b`.
    """
    template = template or find_template(tokenizer, name)
    refuse_config(model.config, name)
    decoder = find_decoder(model, name)
    refuse_modules(model, find_layers(decoder, name), name)
    model.eval().requires_grad_(False)
    stop_ids = find_stop_ids(model, tokenizer) | template.ends
    identity = ModelIdentity(
        name=name,
        source=source,
        revision=revision,
        dtype=_precision(model),
        parameters=sum(p.numel() for p in model.parameters()),
        template=template.fingerprint,
    )
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        decoder=decoder,
        layers=find_layers(decoder, name),
        head=find_head(model, name),
        stop_ids=stop_ids,
        pad_id=_pad_id(model, tokenizer, stop_ids),
        identity=identity,
        template=template,
    )


def find_template(tokenizer: Any, name: str, date: datetime.date | None = None) -> ChatTemplate:
    """The tokenizer's chat template; see `read_template`.

    Raises:
        ModelError: there is none, or it cannot be used.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"model {name!r} has no chat template, so a persona cannot be given to it: "
            "choose an instruction-tuned (chat) model"
        )
    return read_template(tokenizer, name, date)


def _precision(model: Any) -> str:
    """Of the weights as they are in memory: bfloat16, or bfloat16 with linear layers in 4 bits."""
    name = str(model.dtype).removeprefix("torch.")
    return f"{name}, linear in nf4" if getattr(model, "is_loaded_in_4bit", False) else name


def find_decoder(model: Any, name: str) -> nn.Module:
    """The text decoder inside a causal or conditional-generation model."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    if not isinstance(decoder, nn.Module) or decoder is model:
        raise ModelError(
            f"model {name!r} ({type(model).__name__}) has no decoder stack known to this package: "
            "use a decoder-only chat model such as Llama, Gemma or Qwen"
        )
    return decoder


def find_layers(decoder: nn.Module, name: str) -> nn.ModuleList:
    """The list of decoder layers."""
    for attribute in _LAYER_LIST_NAMES:
        layers = getattr(decoder, attribute, None)
        if isinstance(layers, nn.ModuleList) and len(layers) > 0:
            return layers
    raise ModelError(
        f"model {name!r}: {type(decoder).__name__} has no list of layers under "
        f"{', '.join(_LAYER_LIST_NAMES)}: this architecture is not supported yet"
    )


def find_head(model: Any, name: str) -> Head:
    """The output head as plain tensors, with the caps and scales that its config asks for."""
    linear = model.get_output_embeddings()
    if linear is None or not hasattr(linear, "weight"):
        raise ModelError(f"model {name!r} has no output head with a weight matrix")
    config = model.config.get_text_config()
    scale = getattr(config, "logit_scale", None) or 1.0
    if getattr(config, "logits_scaling", None):  # Granite divides
        scale = 1.0 / config.logits_scaling
    return Head(
        weight=linear.weight,
        bias=getattr(linear, "bias", None),
        softcap=getattr(config, "final_logit_softcapping", None),
        scale=float(scale),
    )


def find_stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every end token that the generation config, the config or the tokenizer names."""
    text_config = model.config.get_text_config()
    return stop_ids_of(text_config, tokenizer) | _ids(
        getattr(model.generation_config, "eos_token_id", None)
    )


def stop_ids_of(config: Any, tokenizer: Any) -> frozenset[int]:
    """The end tokens that the configuration of a text model and its tokenizer name."""
    return _ids(getattr(config, "eos_token_id", None)) | _ids(tokenizer.eos_token_id)


def _ids(value: Any) -> frozenset[int]:
    if value is None:
        return frozenset()
    return frozenset([value] if isinstance(value, int) else map(int, value))


def _pad_id(model: Any, tokenizer: Any, stop_ids: frozenset[int]) -> int:
    """The tokenizer's padding token, else an end token, else 0: one that the model has a row for.

    What is padded is masked, so that any of them will do.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    pad = tokenizer.pad_token_id
    known = [i for i in (pad, *sorted(stop_ids)) if i is not None and 0 <= i < rows]
    return int(known[0]) if known else 0


def _learnt_positions(table: nn.Embedding) -> int:
    """Positions that a table of learnt ones has, without the rows that stand for none."""
    unused = getattr(table, "offset", 0 if table.padding_idx is None else table.padding_idx + 1)
    return int(table.num_embeddings) - int(unused)


def _load_failure(spec: str, error: Exception) -> str:
    text = first_line(error)
    if "trust_remote_code" in str(error):
        return (
            f"model {spec!r} brings its own code, which would run on this machine: read it, and "
            "pass --trust-remote-code if you trust it"
        )
    return f"model {spec!r} cannot be loaded: {text}"
