"""Uses of an autoencoder's latent space: embedding, compression, anomalies, generation."""
