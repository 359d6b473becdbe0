"""The stages of a build; their order is in corpus/order.py. A file is called by what it does, a
stage's folder by what it leaves:

    ingest.py                          documents
    exact.py                           exact
    roles.py                           targets, roles
    bpe.py, tokenise.py                tokenizer, tokens
    sketches.py, near.py               sketches, near
    embed.py, sentences.py             encoder, embeddings
    cluster.py, labels.py              centroids, clusters, given, labels
    scores.py                          score-NAME
    pruning.py, merge.py, domains.py   domains
    gather.py                          the shards, beside the manifest
"""
