"""Documents -> clustered token shards: readers, embed, quality, cluster, tokenise, build."""
