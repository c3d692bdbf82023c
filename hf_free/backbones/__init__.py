"""Networks of the few-shot literature, and how timm comes to know them."""
