"""Documents -> clustered token shards: read, embed, cluster, merge, tokenise."""
