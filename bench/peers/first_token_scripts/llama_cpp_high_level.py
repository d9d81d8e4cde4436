"""llama.cpp's way to one token, by its class ``Llama``: MODEL THREADS TEXT."""

import sys

import llama_cpp

llm = llama_cpp.Llama(sys.argv[1], n_threads=int(sys.argv[2]), n_ctx=512, verbose=False)
tokens = llm.tokenize(sys.argv[3].encode(), add_bos=False, special=True)
token = next(iter(llm.generate(tokens, temp=0.0)))
sys.stdout.buffer.write(llm.detokenize([token]) + b"\n")
sys.stdout.flush()
