"""A third domain, to choose settings on: another town, another camera, an hour before night."""

from dataclasses import replace

from uda.data.streets.domains import CAMERA

# fmt: off
DUSK = replace(
    CAMERA,
    name="dusk",
    number=3,
    view=replace(
        CAMERA.view,
        height_m=(1.3, 1.8),
        focal=(0.78, 0.96),
        horizon=(0.42, 0.52),
        bonnet_chance=0.2,
    ),
    town=replace(
        CAMERA.town,
        lane_width_m=(3.0, 3.5),
        num_floors=(1, 5),
        brick_chance=0.3,
        gable_chance=0.8,
        shop_chance=0.25,
        tree_chance=0.5,
        border_weights=(0.2, 0.45, 0.25, 0.1),
    ),
    colors=replace(
        CAMERA.colors,
        facades=((198, 188, 170), (168, 140, 116), (188, 176, 150), (142, 132, 128),
                 (176, 150, 128), (206, 198, 186), (124, 112, 108)),
        roofs=((70, 70, 78), (88, 76, 74), (112, 74, 60)),
        glass=((34, 36, 46), (90, 84, 76), (214, 176, 104), (52, 52, 60)),
        asphalt=((72, 72, 78), (84, 82, 84), (62, 62, 68)),
        paving=((134, 126, 122), (118, 114, 116), (150, 142, 134)),
        grass=((112, 112, 70), (134, 124, 84), (92, 100, 66)),
        leaves=((98, 92, 52), (126, 96, 48), (74, 82, 52), (92, 72, 48)),
        cars=((60, 66, 86), (168, 168, 172), (40, 40, 44), (126, 40, 44), (214, 212, 206),
              (84, 92, 84)),
        texture=1.0,
    ),
    air=replace(
        CAMERA.air,
        sun=(0.2, 0.9),
        ambient=(0.55, 0.8),
        sun_height=(0.2, 0.6),
        sun_color=((255, 176, 110), (255, 196, 140)),
        zenith=((96, 104, 150), (120, 112, 150), (84, 100, 140)),
        horizon=((240, 186, 150), (226, 170, 150), (208, 180, 176)),
        clouds=(0.1, 0.7),
        haze_m=(220.0, 700.0),
        shadow=(0.5, 0.75),
        shadow_softness_m=0.4,
    ),
    sensor=replace(
        CAMERA.sensor,
        exposure=(0.6, 0.95),
        white_balance=((0.98, 1.2), (0.85, 1.1)),
        saturation=(0.8, 1.1),
        contrast=(0.95, 1.25),
        blur=(0.001, 0.005),
        vignette=(0.2, 0.5),
        noise=(0.012, 0.03),
        jpeg_quality=(60, 90),
    ),
)
# fmt: on
