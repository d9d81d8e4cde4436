"""ONNX Runtime GenAI's way to one token: FOLDER THREADS TEXT."""

import json
import sys

import onnxruntime_genai

config = onnxruntime_genai.Config(sys.argv[1])
config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": int(sys.argv[2])}}}}))
model = onnxruntime_genai.Model(config)
tokenizer = onnxruntime_genai.Tokenizer(model)
ids = tokenizer.encode(sys.argv[3])
params = onnxruntime_genai.GeneratorParams(model)
params.set_search_options(do_sample=False, max_length=len(ids) + 1)
generator = onnxruntime_genai.Generator(model, params)
generator.append_tokens(ids)
generator.generate_next_token()
sys.stdout.write(tokenizer.decode(generator.get_next_tokens()) + "\n")
sys.stdout.flush()
