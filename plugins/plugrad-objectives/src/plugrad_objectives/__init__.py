"""Objectives beyond the policy gradient: critics, pairs, embeddings, teachers, several tasks, attacks. One file each."""
