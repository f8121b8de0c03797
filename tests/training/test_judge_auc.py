"""AUC of logits that more than one classifier gave."""

import numpy as np

from toolkit.training import judge_fit


def test_classifiers_of_two_scales_are_not_compared():
    """Two folds that tell apart equally well, one with logits in a hair's breadth of another mean: the AUC of each."""
    random = np.random.default_rng(3)
    important = random.random(4000) < 0.2
    score = random.normal(size=4000) + 1.3 * important
    fold = np.arange(4000) % 2
    squeezed = np.where(fold == 0, -1.4 + 1e-3 * score, score - 2)
    each = [judge_fit.auc(score[fold == one], important[fold == one]) for one in (0, 1)]
    assert min(each) < judge_fit.auc(squeezed, important, fold=fold) < max(each)
    assert judge_fit.auc(squeezed, important) < min(each) - 0.02
    assert judge_fit.auc(score, important, fold=np.zeros(4000, int)) == judge_fit.auc(score, important)
