"""The harness `plugrad_chat` for `verifiers`: a conversation with tools, led in this process.

`verifiers` imports a harness as a top-level module of its id.
"""

from plugrad_chat.conversation import ChatHarness

__all__ = ["ChatHarness"]
