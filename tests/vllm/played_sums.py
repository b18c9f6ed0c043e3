"""An environment of two turns for whole runs: it asks for a sum, and then for another one."""


class PlayedSums:
    """The reward is how many of both replies begin with a digit."""

    def train_examples(self):
        return [{"prompt": f"{a}+{b}=", "reference": str(a + b)} for a in range(4) for b in range(4)]

    def eval_examples(self):
        return self.train_examples()[:4]

    async def play(self, example, policy):
        chat = policy.chat(example["prompt"])
        first = await chat.reply()
        chat.add("user", "+1=")
        second = await chat.reply(max_new_tokens=3)
        return float(first.text[:1].isdigit() + second.text[:1].isdigit())
