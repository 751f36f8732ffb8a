"""A language model in this machine's memory, through transformers: Qwen2.5, or another with a chat template.

It is asked for the likelihood of texts (`begin`), or to write a function call under a grammar (`write`). One question
at a time; both block, and belong into a thread. torch is imported when a model is loaded and not before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final, cast

from connectors.reasoners.memory import check_room
from connectors.reasoners.scoring import TextScoring
from connectors.reasoners.weights import ModelFiles, find, read
from connectors.reasoners.writing import Written, write_under
from schemas.errors import ConfigError, ConnectionFault
from schemas.reasoning import Prompt
from schemas.settings import TransformersSettings

CALL_OPENING: Final = '<tool_call>\n{{"name": "{function}", "arguments":'
"""How a model of Qwen's kind begins a function call; the arguments follow after a space."""


class TransformersModel:
    """A loaded model."""

    def __init__(self, settings: TransformersSettings) -> None:
        """Load: seconds for a small model, minutes for a large one.

        Raises:
            ConfigError: the files are not as they must be, or the packages for this setting are missing.
            ConnectionFault: they cannot be loaded: too little memory, no such device.
        """
        folder = find(settings)
        check_room(settings, folder, beside_bytes=_on_gpus(settings))
        files = read(settings, folder)
        self._settings = settings
        self._torch, self._tokenizer, self._model = _load(settings, files)
        self._controls = tuple(self._tokenizer.all_special_tokens)
        self._grammar_tokens: Any = None
        self.identity: Mapping[str, str] = {
            "model": settings.model,
            "revision": settings.revision,
            **files.identity(),
            "dtype": settings.dtype,
            "device": str(self._model.device),
            "torch": version("torch"),
            "transformers": version("transformers"),
        }
        """What reproduces an answer, beside prompt and seed."""

    def begin(self, prompt: Prompt, *, call: bool, deadline_s: float) -> TextScoring:
        """Begin a question whose answer is chosen piece by piece.

        Args:
            prompt: What the model is told.
            call: Whether the answer stands in a function call; else it stands alone.
            deadline_s: Wall time for all of it; after that `score` raises `ConnectionFault`.
        """
        text = self._render(prompt, with_tools=call)
        if call:
            text += CALL_OPENING.format(function=prompt.function)
        return TextScoring(self._torch, self._model, self._encode, self._encode(text), _until(deadline_s))

    def write(self, prompt: Prompt, *, seed: int, temperature: float, deadline_s: float) -> Written:
        """Write the arguments of the call under the grammar of `prompt.answer`.

        Args:
            prompt: What the model is told.
            seed: Of the draws; of no account at temperature 0.
            temperature: 0 takes the likeliest token each time.
            deadline_s: Wall time for all of it.

        Raises:
            ConnectionFault: the time is up, the answer is longer than `tokens_max`, or the grammar is refused.
        """
        text = self._render(prompt, with_tools=True) + CALL_OPENING.format(function=prompt.function)
        return write_under(
            self._torch,
            self._model,
            self._for_grammar(),
            tokens=self._encode(text),
            decode=lambda ids: cast(str, self._tokenizer.decode(ids)),
            schema=prompt.answer,
            seed=seed,
            temperature=temperature,
            tokens_max=self._settings.tokens_max,
            until=_until(deadline_s),
        )

    def _render(self, prompt: Prompt, *, with_tools: bool) -> str:
        """Return the prompt in the model's own chat form.

        Raises:
            ValueError: a message holds one of the model's control tokens: it would end the message.
        """
        for message in prompt.messages:
            for control in self._controls:
                if control in message.content:
                    raise ValueError(f"a {message.role} message holds the control token {control!r}")
        function = {
            "name": prompt.function,
            "description": prompt.description,
            "parameters": json.loads(prompt.parameters),
        }
        rendered = self._tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in prompt.messages],
            tools=[{"type": "function", "function": function}] if with_tools else None,
            add_generation_prompt=True,
            tokenize=False,
        )
        return cast(str, rendered)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False).input_ids)

    def _for_grammar(self) -> Any:
        if self._grammar_tokens is None:
            import llguidance.hf

            size = self._model.config.vocab_size
            self._grammar_tokens = llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=size)
        return self._grammar_tokens


def _until(deadline_s: float) -> float:
    return time.monotonic() + deadline_s


def _on_gpus(settings: TransformersSettings) -> int:
    """Return the free memory of the GPUs that the model may use, in bytes."""
    if settings.device == "cpu":
        return 0
    try:
        import torch
    except ImportError:
        return 0  # `_load` says so.
    numbers = range(torch.cuda.device_count()) if settings.device == "auto" else [torch.device(settings.device)]
    return sum(torch.cuda.mem_get_info(number)[0] for number in numbers) if torch.cuda.is_available() else 0


def _load(settings: TransformersSettings, files: ModelFiles) -> tuple[Any, Any, Any]:
    try:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise ConfigError(
            "jidoka.toml", f"reasoners.{settings.name}", f"{error.name} is not installed", "pip install 'jidoka[model]'"
        ) from error
    disable_progress_bar()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        tokenizer = AutoTokenizer.from_pretrained(files.folder, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            files.folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **_placement(settings, torch),
        )
    except (OSError, ValueError, RuntimeError, MemoryError, ImportError, SafetensorError) as error:
        raise ConnectionFault(f"{settings.model} cannot be loaded: {error}") from error
    return torch, tokenizer, model.eval()


def _placement(settings: TransformersSettings, torch: Any) -> dict[str, Any]:
    """Return precision and place, as `from_pretrained` takes them."""
    chosen: dict[str, Any] = {"device_map": settings.device}
    match settings.dtype:
        case "float32" | "bfloat16":
            return chosen | {"dtype": getattr(torch, settings.dtype)}
        case "fp8":
            from transformers import FineGrainedFP8Config

            return chosen | {"dtype": torch.bfloat16, "quantization_config": FineGrainedFP8Config()}
        case "int8":
            try:
                from torchao.quantization import Int8WeightOnlyConfig
                from transformers import TorchAoConfig
            except ImportError as error:
                raise ConfigError(
                    "jidoka.toml", f"reasoners.{settings.name}.dtype", "int8 needs torchao", "pip install torchao"
                ) from error
            return chosen | {"dtype": torch.bfloat16, "quantization_config": TorchAoConfig(Int8WeightOnlyConfig())}
