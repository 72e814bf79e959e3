"""The text teacher: language models and counts that predict the next action from past ones, as soft labels."""
