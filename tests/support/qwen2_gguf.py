"""Writes a Qwen2 model as llama.cpp reads it. Run by the Python that has `gguf`, not by the product's.

    python tests/support/qwen2_gguf.py FOLDER MODEL.gguf

llama.cpp's own script knows a tokenizer by a digest of what it makes of a text, and so none that was trained on the
spot; what it writes for Qwen2 is written here. Whether llama.cpp makes of the file what transformers makes of the
folder is found out by `tests.support.conversion`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import gguf

SPLIT_LIKE_QWEN2 = "qwen2"
"""llama.cpp's name for the pattern by which Qwen2's tokenizer splits text before it merges."""


def write(folder: Path, path: Path) -> None:
    """Write configuration, tokenizer and weights of a folder that `save_pretrained` wrote, all in 32 bits."""
    import gguf

    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "qwen2")
    _shape(writer, config)
    _tokenizer(writer, folder, config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config["num_hidden_layers"])
    for name, weights in tensors(folder / "model.safetensors"):
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert known is not None, f"Qwen2 has no {name}"
        writer.add_tensor(known, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _shape(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    import gguf

    rope = config["rope_parameters"]
    assert (rope["rope_type"], config["use_sliding_window"]) == ("default", False), "only as Qwen2.5 is published"
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _tokenizer(writer: gguf.GGUFWriter, folder: Path, config: dict[str, Any]) -> None:
    import gguf

    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokens = {number: (text, gguf.TokenType.NORMAL) for text, number in tokenizer["model"]["vocab"].items()}
    for added in tokenizer["added_tokens"]:
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens[added["id"]] = (added["content"], kind)
    # A model has more rows than its tokenizer has tokens; each wants a name, and none is ever said.
    every = [tokens.get(n, (f"[PAD{n}]", gguf.TokenType.UNUSED)) for n in range(config["vocab_size"])]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(SPLIT_LIKE_QWEN2)
    writer.add_token_list([text for text, _ in every])
    writer.add_token_types([kind for _, kind in every])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text())


def tensors(path: Path) -> Iterator[tuple[str, np.ndarray[Any, np.dtype[np.float32]]]]:
    """Yield name and weights of a safetensors file: 8 bytes with the header's length, the header, the weights."""
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    for name, about in json.loads(content[8:begin]).items():
        if name == "__metadata__":
            continue
        first, last = (begin + offset for offset in about["data_offsets"])
        yield name, _floats(content[first:last], about["dtype"]).reshape(about["shape"])


def _floats(content: bytes, dtype: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)
    assert dtype == "F32", f"{dtype} is not read here"
    return np.frombuffer(content, "<f4")


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
