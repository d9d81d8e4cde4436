"""llama.cpp's way to one token, by the low-level interface: MODEL THREADS TEXT."""

import sys

import llama_cpp

_CONTEXT_TOKENS = 512
_PIECE_BYTES = 256


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _ignore(level: int, text: bytes, data: object) -> None:
    """llama.cpp prints a page for each model."""


model_path, threads, text = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
llama_cpp.llama_log_set(_ignore, None)
llama_cpp.llama_backend_init()
model = llama_cpp.llama_model_load_from_file(model_path.encode(), llama_cpp.llama_model_default_params())
vocabulary = llama_cpp.llama_model_get_vocab(model)
tokens = (llama_cpp.llama_token * _CONTEXT_TOKENS)()
count = llama_cpp.llama_tokenize(vocabulary, text, len(text), tokens, _CONTEXT_TOKENS, False, True)
params = llama_cpp.llama_context_default_params()
params.n_ctx = params.n_batch = params.n_ubatch = _CONTEXT_TOKENS
params.n_threads = params.n_threads_batch = threads
context = llama_cpp.llama_init_from_model(model, params)
if not context or count <= 0 or llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, count)):
    sys.exit("llama.cpp: failed")
sampler = llama_cpp.llama_sampler_init_greedy()
token = llama_cpp.llama_sampler_sample(sampler, context, -1)
piece = (llama_cpp.ctypes.c_char * _PIECE_BYTES)()
length = llama_cpp.llama_token_to_piece(vocabulary, token, piece, _PIECE_BYTES, 0, False)
sys.stdout.buffer.write(piece.raw[:length] + b"\n")
sys.stdout.flush()
