"""Extensions that come with plugrad."""
