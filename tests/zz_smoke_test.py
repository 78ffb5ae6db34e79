from jaxinv import experiment, outcome
from jaxinv.experiment import Arm, Settings
from jaxinv.groups import Host, run_groups
from jaxinv.types import Hyper

def test_x(planted):
  arms=(Arm("a","sgd",Hyper()),Arm("b","adam",Hyper(learning_rate=0.01)))
  lab = experiment.make_lab(Settings(arms, num_seeds=3, steps=7, batch_size=8, width=2, record_every=3, hidden=()), planted)
  out = outcome.assemble(lab, run_groups(lab, experiment.plan(lab), None, Host()))
  print(outcome.summarize(out))
