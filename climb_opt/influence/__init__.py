"""What the tokens of each domain do for each target, measured at the end of one proxy.

TiKMiX (arXiv 2508.17677): one proxy is trained on the prior, and group influence at its end says
what more of each domain would do. Notation, here and below:

    f_i   a target: a component of the score, in its own unit; f (n,)
    L_j   the mean loss of domain j, nats a token; G = (grad L_1 .. grad L_K), (P, K)
    H     the curvature of the training loss at the prior, damped: H + lambda I
    S     (n, K) = grad f^T H^-1 G: what weight on domain j *lowers* target i by

The paper's group influence is I = -grad f^T H^-1 G, by how much f *rises*; its program wants what
helps, so with losses for targets S is -I, which the paper does not say.
"""
