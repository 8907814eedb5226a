"""SQuAD: questions become windows, logits become answers, answers become EM and F1.

- `questions`: SQuAD's JSON, read and checked.
- `tokenization`: BERT's own tokenisation, word by word.
- `features`: the windows that the model reads, and the file that keeps them.
- `datasets`: the data sets that the suite knows, and everything that is made of one.
- `answers`: from logits to the text of an answer.
- `score`: SQuAD's official score.
"""
