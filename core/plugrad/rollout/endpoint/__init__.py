"""The policy behind an OpenAI-compatible address, for agents that know nothing of plugrad."""
