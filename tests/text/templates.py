"""Chat templates that say the same as published ones, in fewer words."""

from __future__ import annotations

_CALLS = """\
{%- for call in message.tool_calls %}{{ '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}\
{{ call.function.arguments | tojson }}{{ '}\\n</tool_call>' }}{% endfor %}"""

_TOOLS = """\
{%- if tools %}{{ '<|im_start|>system\\n<tools>' }}{% for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}\
{{ '\\n</tools>\\nCall them so:\\n<tool_call>\\n{\\"name\\": <function-name>, \\"arguments\\": <args-json-object>}\\n\
</tool_call><|im_end|>\\n' }}{% endif %}"""

QWEN2 = (
    _TOOLS
    + """\
{%- for message in messages %}\
{%- if message.role == 'tool' %}\
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}\
{%- else %}{{ '<|im_start|>' + message.role + '\\n' + (message.content or '') }}"""
    + _CALLS
    + """{{ '<|im_end|>\\n' }}{% endif %}{% endfor %}\
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
)
"""The form of Hermes 2 Pro and Qwen2.5."""

QWEN3 = (
    _TOOLS
    + """\
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}\
{%- if message.reasoning_content %}{{ '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}\
{{- message.content or '' }}"""
    + _CALLS
    + """{{ '<|im_end|>\\n' }}{% endfor %}\
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}\
{%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"""
)
"""That of Qwen3: the model may reason, and calls tools."""

R1 = """\
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content.split('</think>')[-1] }}\
{{- '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"""
"""The form of DeepSeek R1 and QwQ: the prompt opens the reasoning."""

LLAMA3 = """\
{%- if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}\
{%- if not tools is defined %}{% set tools = none %}{% endif %}{{ bos_token }}\
{%- if tools is not none %}{{ '<|im_start|>system\\nRespond in the format ' }}\
{{- '{"name": function name, "parameters": dictionary of argument name and its value}.\\n' }}\
{%- for tool in tools %}{{ tool | tojson(indent=4) + '\\n\\n' }}{% endfor %}{{ '<|im_end|>' }}{% endif %}\
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}\
{%- if message.tool_calls %}{% set call = message.tool_calls[0].function %}\
{{- '{"name": "' + call.name + '", "parameters": ' }}{{ call.arguments | tojson }}{{ '}' }}\
{%- else %}{{ message.content }}{% endif %}{{ '<|im_end|>' }}{% endfor %}\
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
"""The form of Llama 3.1 and later: a call is the whole answer."""
