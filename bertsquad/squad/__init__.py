"""SQuAD: questions become windows, logits become answers, answers become EM and F1.

- `forms`: the forms in which a file can have SQuAD's questions.
- `questions`: SQuAD's questions, read from a file and checked.
- `tokenization`: BERT's own tokenisation, word by word.
- `features`: the windows that the model reads, and the file that keeps them.
- `reading`: what a way from questions to windows and back to text offers.
- `mlperf`: MLPerf's reading: its windows, and answers in words.
- `hugging_face`: Hugging Face's reading: `run_qa`'s windows, and answers in characters.
- `tokeniser`: a model's own tokeniser, opened as transformers opens it.
- `tokeniser_files`: the files that it consists of, and what they say.
- `added_tokens`: tokens that were added to a vocabulary, as the files beside it say.
- `frame`: the special tokens around a question and its context.
- `known_questions`: questions whose answers are known to the token, to be asked of a model.
- `datasets`: the data sets that the suite knows, and everything that is made of one.
- `answers`: from logits to the text of an answer.
- `score`: SQuAD's official score.
"""
