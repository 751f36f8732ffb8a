"""The embedded model's vocabulary and tokenizer: whole words of closed sets, and bytes for anything else.

Files and class are those of Qwen2 (byte-level BPE without merges, words as added tokens), so that it is loaded like a
large model's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, get_args

from agent.reasoning.canonical import KINDS, SIGNS_MAX
from agent.reasoning.compact import COUNT_MAX, COUNTED, DETECTORS_TOLD, END, NO, OWN, YES
from agent.reasoning.repertoire import GENERAL_CAUSES
from schemas.line import PackMLState
from schemas.plans import Tier
from schemas.playbook import Bucket

SPECIAL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
BYTES: Final = 256
SPACE: Final = len(SPECIAL) + 220
"""The number of the space: it stands before what is spelt in bytes."""
SLOTS_MAX: Final = 60
"""Causes and actions with a word of their own; more are spelt in bytes, which the model has not learnt."""
TEMPLATE: Final = (
    "{%- for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)

WORDS: Final = tuple(
    dict.fromkeys(
        [
            "user", "assistant",
            *get_args(Tier), *PackMLState.__members__,
            *sorted({*KINDS.values(), "other"}), *get_args(Bucket), "up", "down", "none",
            *sorted(DETECTORS_TOLD), "leads", "within", "beside", "again", "first", "ready", "missing",
            "deviates", "doubted", "settled",
            *(f"{mark}{n}" for mark in COUNTED for n in range(COUNT_MAX + 1)), "clear", "spoilt", "undecided",
            *GENERAL_CAUSES, END, OWN, YES, NO,
            *(f"{kind}{n:02}" for kind in "SA" for n in range(1, SIGNS_MAX + 1)),
            *(f"{kind}{n:02}" for kind in "DX" for n in range(1, SLOTS_MAX + 1)),
        ]
    )
)  # fmt: skip
"""In the order of their numbers. A new word goes to the end, or the model has to be trained again."""


def write_tokenizer(folder: Path) -> Any:
    """Write the tokenizer's files and return it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({text: n for n, text in enumerate([*SPECIAL, *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )
    # A word takes the space before it along: a text is the same words whether it is read whole or in pieces.
    fast.add_tokens([AddedToken(word, normalized=False, lstrip=True, single_word=True) for word in WORDS])
    fast.chat_template = TEMPLATE
    fast.model_max_length = 4096
    fast.save_pretrained(folder)
    return fast


def numbers() -> dict[str, int]:
    """Return each word's number in the tokenizer that `write_tokenizer` writes."""
    first = len(SPECIAL) + BYTES
    return {text: n for n, text in enumerate(SPECIAL)} | {word: first + n for n, word in enumerate(WORDS)}
