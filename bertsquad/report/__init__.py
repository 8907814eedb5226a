"""One HTML page about finished runs. Needs the extra `report`.

- `page`: the page, made from its template `page.html`.
- `exhibits`: plots with their numbers, and verdicts in a word.
- `nodes`: the nodes of a cluster in a run: a table, and a plot of their throughput.
- `gate`: what `--gate` said of a case's runs, as a table.
- `circumstances`: on what and how runs were made, as tables.
- `links`: links from the page to what a run answered, where its folder still holds that.
- `plots`: the plots themselves.
- `canvas`: what every plot is drawn on, and the words that stand in it.
- `svg`: a plot as an `<svg>` element that stands on a page among others.
- `published`: published MLPerf figures, to stand beside one's own.
"""
