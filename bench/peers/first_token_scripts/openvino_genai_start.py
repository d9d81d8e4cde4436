"""OpenVINO GenAI's way to one token: FOLDER THREADS TEXT IDS. Where the folder has no tokenizer, the ids are taken."""

import sys
from pathlib import Path

import numpy
import openvino
import openvino_genai

folder, threads, text, ids = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
config = openvino_genai.GenerationConfig(max_new_tokens=1, do_sample=False, apply_chat_template=False)
properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
if (folder / "openvino_tokenizer.xml").exists():
    pipeline = openvino_genai.LLMPipeline(folder, "CPU", **properties)
    sys.stdout.write(str(pipeline.generate(text, config)) + "\n")
else:
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 1
    batching = openvino_genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", properties)
    tensor = openvino.Tensor(numpy.array([[int(each) for each in ids.split(",")]], numpy.int64))
    (result,) = batching.generate([tensor], [config])
    sys.stdout.write(f"{result.m_generation_ids[0][-1]}\n")
sys.stdout.flush()
