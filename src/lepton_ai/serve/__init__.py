"""The service: engines behind the HTTP interface that clients of OpenAI's speak."""
