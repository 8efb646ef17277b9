"""Knowledge distillation (Hinton et al. 2015): a student learns what a teacher answers, besides what the data says.

settings -> weight of each step; student, teacher -> models; teacher or stored -> what is answered; outputs, states -> losses;
step -> one sum in nats, which a recipe hands to the loop as any objective's.
"""
