"""What llama.cpp makes of a file: its tokens of a text, its logits after each of some tokens. Run by its own Python.

echo '{"text": "...", "ids": [1, 2, 3]}' | python tests/support/llama_logits.py MODEL.gguf
"""

from __future__ import annotations

import json
import sys

ACCURATE = 0
"""ggml's number for 32-bit floats: with the usual 16 bits for keys and values two engines differ in the third digit."""


def main() -> None:
    import llama_cpp

    asked = json.load(sys.stdin)
    model = llama_cpp.Llama(
        sys.argv[1], n_ctx=max(512, len(asked["ids"])), n_threads=1, logits_all=True, verbose=False,
        type_k=ACCURATE, type_v=ACCURATE,
    )  # fmt: skip
    tokens = model.tokenize(asked["text"].encode(), add_bos=False, special=True)
    model.eval(asked["ids"])
    logits = model.scores[: len(asked["ids"])].tolist()
    json.dump({"tokens": tokens, "logits": logits}, sys.stdout)


if __name__ == "__main__":
    main()
