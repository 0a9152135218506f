"""What CelebA says of each photograph."""

# fmt: off
ATTRIBUTES = (
    "arched_eyebrows", "attractive", "bags_under_eyes", "bald", "bangs",
    "big_lips", "big_nose", "black_hair", "blond_hair", "blurry", "brown_hair",
    "bushy_eyebrows", "chubby", "double_chin", "eyeglasses",
    "five_o_clock_shadow", "goatee", "gray_hair", "heavy_makeup",
    "high_cheekbones", "male", "mouth_slightly_open", "mustache", "narrow_eyes",
    "no_beard", "oval_face", "pale_skin", "pointy_nose", "receding_hairline",
    "rosy_cheeks", "sideburns", "smiling", "straight_hair", "wavy_hair",
    "wearing_earrings", "wearing_hat", "wearing_lipstick", "wearing_necklace",
    "wearing_necktie", "young",
)
# fmt: on
