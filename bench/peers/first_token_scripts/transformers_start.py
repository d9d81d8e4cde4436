"""The way of transformers and PyTorch to one token: FOLDER THREADS TEXT."""

import sys

import torch
import transformers

torch.set_num_threads(int(sys.argv[2]))
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16).eval()
ids = tokenizer(sys.argv[3], return_tensors="pt", add_special_tokens=False)
with torch.inference_mode():
    output = model.generate(**ids, max_new_tokens=1, do_sample=False)
sys.stdout.write(tokenizer.decode(output[0, -1]) + "\n")
sys.stdout.flush()
