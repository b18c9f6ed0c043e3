"""The losses of NeMo RL's guide to custom losses: what they take and compute, with its faults; only imports are changed."""

import torch
import torch.nn.functional as F

from plugrad_compat.nemo_rl import BaseLossFunction, CrossEntropyLoss, FocalLoss


class ContrastiveLoss(BaseLossFunction):
    def __init__(self, config):
        super().__init__(config)
        self.margin = config.get("margin", 1.0)
        self.negative_weight = config.get("negative_weight", 1.0)

    def forward(self, embeddings, labels, **kwargs):
        distances = torch.cdist(embeddings, embeddings)
        same = labels.unsqueeze(1) == labels.unsqueeze(0)
        positive = distances[same & ~torch.eye(embeddings.size(0), dtype=bool, device=embeddings.device)]
        negative = distances[~same]
        positive_loss = positive.pow(2).mean()
        negative_loss = F.relu(self.margin - negative).pow(2).mean()
        loss = positive_loss + self.negative_weight * negative_loss
        return loss, {"positive_loss": positive_loss.item(), "negative_loss": negative_loss.item()}


class KLDivergenceLoss(BaseLossFunction):
    def __init__(self, config):
        super().__init__(config)
        self.temperature = config.get("temperature", 4.0)
        self.alpha = config.get("alpha", 0.7)

    def forward(self, student_logits, teacher_logits, targets=None, **kwargs):
        student = F.softmax(student_logits / self.temperature, dim=-1)
        teacher = F.softmax(teacher_logits / self.temperature, dim=-1)
        kl_loss = F.kl_div(student.log(), teacher, reduction="batchmean") * (self.temperature**2)
        task_loss = torch.tensor(0.0, device=student_logits.device)
        total = kl_loss
        if targets is not None:
            task_loss = F.cross_entropy(student_logits, targets)
            total = self.alpha * task_loss + (1 - self.alpha) * kl_loss
        return total, {"kl_loss": kl_loss.item(), "task_loss": task_loss.item(), "temperature": self.temperature}


class RewardShapingLoss(BaseLossFunction):
    """Draws actions of its own, and calls a method that tensors lack."""

    def __init__(self, config):
        super().__init__(config)
        self.shaping_weight = config.get("shaping_weight", 0.1)
        self.entropy_weight = config.get("entropy_weight", 0.01)
        self.value_weight = config.get("value_weight", 0.5)

    def forward(self, policy_logits, value_predictions, rewards, advantages, **kwargs):
        probs, log_probs = F.softmax(policy_logits, dim=-1), F.log_softmax(policy_logits, dim=-1)
        actions = torch.multinomial(probs, 1)
        return self._total(probs, log_probs, actions, value_predictions, rewards, advantages)

    def _total(self, probs, log_probs, actions, values, rewards, advantages):
        policy_loss = -(log_probs.gather(1, actions) * advantages.unsqueeze(1)).mean()
        value_loss = F.mse_loss(values, rewards)
        entropy = -(probs * log_probs).sum(dim=-1).mean()
        shaping = self.shaping_weight * (self._spread(probs, log_probs) + F.relu(advantages).mean())
        total = policy_loss + self.value_weight * value_loss - self.entropy_weight * entropy + shaping
        return total, {"policy_loss": policy_loss.item(), "value_loss": value_loss.item()}

    def _spread(self, probs, log_probs):
        return probs.entropy().mean()


class RewardShapingOfSampledTokens(RewardShapingLoss):
    """As the first error says: the actions are an argument. It still calls the method that tensors lack."""

    def forward(self, policy_logits, value_predictions, rewards, advantages, actions, **kwargs):
        probs, log_probs = F.softmax(policy_logits, dim=-1), F.log_softmax(policy_logits, dim=-1)
        return self._total(probs, log_probs, actions.unsqueeze(1), value_predictions, rewards, advantages)


class RewardShapingThatRuns(RewardShapingOfSampledTokens):
    """As both errors say."""

    def _spread(self, probs, log_probs):
        return -(probs * log_probs).sum(dim=-1).mean()


class MultiTaskLoss(BaseLossFunction):
    """Looks its weights up by a tensor, which finds none."""

    def __init__(self, config):
        super().__init__(config)
        self.task_weights = config.get("task_weights", {})
        self.uncertainty_weighting = config.get("uncertainty_weighting", False)

    def forward(self, predictions, targets, task_ids, **kwargs):
        total, metrics = 0.0, {}
        for task_id in task_ids.unique():
            mask = task_ids == task_id
            found, wanted = predictions[mask], targets[mask]
            loss = F.cross_entropy(found, wanted) if task_id == 0 else self._of_task(found, wanted, task_id)
            if self.uncertainty_weighting:
                spread = found.var(dim=-1).mean() if found.dim() > 1 else found.var()
                loss = loss / (spread**2) + torch.log(spread)
            total += self.task_weights.get(task_id, 1.0) * loss
            metrics[f"task_{task_id}_loss"] = loss.item()
        return total, metrics

    def _of_task(self, found, wanted, task_id):
        return F.mse_loss(found, wanted)


class TasksOfClasses(MultiTaskLoss):
    """Every task is one of classification."""

    def _of_task(self, found, wanted, task_id):
        return F.cross_entropy(found, wanted, label_smoothing=0.1)


class AdversarialLoss(BaseLossFunction):
    def __init__(self, config):
        super().__init__(config)
        self.epsilon = config.get("epsilon", 0.1)
        self.alpha = config.get("alpha", 0.5)

    def forward(self, model, inputs, targets, **kwargs):
        clean = F.cross_entropy(model(inputs), targets)
        inputs.requires_grad_(True)
        F.cross_entropy(model(inputs), targets).backward()
        attacked = (inputs + self.epsilon * inputs.grad.sign()).detach()
        return clean + self.alpha * F.cross_entropy(model(attacked), targets), {"clean_loss": clean.item()}


class AttackedLogits(BaseLossFunction):
    """The same attack, on logits."""

    def forward(self, student_logits, targets):
        F.cross_entropy(student_logits, targets).backward()
        return F.cross_entropy(student_logits + 0.1 * student_logits.grad.sign(), targets), {}


class CombinedLoss(BaseLossFunction):
    def __init__(self, config):
        super().__init__(config)
        self.loss_functions = []
        self.loss_weights = config.get("loss_weights", [])
        for made in config.get("loss_functions", []):
            self.loss_functions.append(self._create(made["name"], made.get("params", {})))

    def forward(self, predictions, targets, **kwargs):
        total, metrics = 0.0, {}
        for i, loss_fn in enumerate(self.loss_functions):
            loss, own = loss_fn(predictions, targets, **kwargs)
            total += (self.loss_weights[i] if i < len(self.loss_weights) else 1.0) * loss
            metrics |= {f"{loss_fn.__class__.__name__}_{key}": value for key, value in own.items()}
        return total, {**metrics, "total_loss": total.item()}

    def _create(self, name, params):
        if name == "cross_entropy":
            return CrossEntropyLoss(params)
        if name == "focal":
            return FocalLoss(params)
        raise ValueError(f"Unknown loss function: {name}")


class Regression(BaseLossFunction):
    """Beside the guide's: one number per sequence, and a sum."""

    def forward(self, embeddings, targets):
        return F.mse_loss(embeddings.mean(dim=1), targets.to(embeddings), reduction="sum"), {}
