"""SQuAD: questions become windows, logits become answers, answers become EM and F1."""
