"""CTranslate2's way to one token: FOLDER THREADS TEXT IDS. It has no tokenizer: the ids are taken."""

import json
import sys
from pathlib import Path

import ctranslate2

folder = Path(sys.argv[1])
generator = ctranslate2.Generator(str(folder), device="cpu", compute_type="int8", intra_threads=int(sys.argv[2]))
words = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
prompt = [words[int(each)] for each in sys.argv[4].split(",")]
(result,) = generator.generate_batch(
    [prompt], beam_size=1, sampling_topk=1, max_length=1, min_length=1, include_prompt_in_result=False
)
sys.stdout.write(result.sequences[0][0] + "\n")
sys.stdout.flush()
