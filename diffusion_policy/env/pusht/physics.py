"""The physics of Push-T: a disc that follows a target pushes a T over a table with walls.

The world is quasi-static: `damping = 0` removes every velocity of the block in each physics step, so that
it moves only while pushed. Three oddities are part of the task and of the published data, and stay: the
block's moment of inertia counts the bar twice and leaves out the stem; its centre of gravity is the plain
mean of the bar's and the stem's, not weighted by area; nothing has friction.
"""

from diffusion_policy.env.pusht.geometry import AGENT_RADIUS, BAR, STEM, WALL_CORNERS, Point, Vector

try:
    import pymunk
except ImportError as error:
    raise ImportError('Push-T needs pymunk: pip install "diffusion_policy[pusht]"') from error

PHYSICS_STEP_S = 0.01
PHYSICS_STEPS_PER_CONTROL = 10
POSITION_GAIN = 100.0  # 1/s^2
VELOCITY_GAIN = 20.0  # 1/s
BLOCK_MASS = 1.0
WALL_RADIUS = 2
# The order and the direction of the walls decide in which order contacts are solved.
WALLS = ((0, 1), (1, 2), (2, 3), (0, 3))
# So do the places where bodies enter the world before they are put where they start.
AGENT_ENTRY = (256, 400)
BLOCK_ENTRY = (256, 300)


class PushTPhysics:
    """One Push-T world. The agent starts at `agent_position`, the block at `block_pose` (x, y, angle).

    Args:
        agent_position: x, y of the agent's centre, in pixels.
        block_pose: x, y (pixels) and angle (radians) of the block's origin.
        position_first: set the block's position before its angle. A body turns about its centre of gravity,
            so the origin then ends elsewhere than asked; the recorded demonstrations started this way.
    """

    def __init__(self, agent_position: Vector, block_pose: Vector, *, position_first: bool = False) -> None:
        self._space = pymunk.Space()
        self._space.gravity = (0, 0)
        self._space.damping = 0
        for start, end in WALLS:
            wall = pymunk.Segment(
                self._space.static_body, WALL_CORNERS[start], WALL_CORNERS[end], WALL_RADIUS
            )
            self._space.add(wall)
        self._agent = self._add_agent()
        self._block = self._add_block()
        self._contact_drawing = _ContactSegments()

        self._agent.position = (float(agent_position[0]), float(agent_position[1]))
        x, y, angle = map(float, block_pose)
        if position_first:
            self._block.position = (x, y)
            self._block.angle = angle
        else:
            self._block.angle = angle
            self._block.position = (x, y)
        self._space.step(PHYSICS_STEP_S)  # finds the first contacts; nothing moves yet

    def _add_agent(self) -> "pymunk.Body":
        body = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        body.position = AGENT_ENTRY
        self._space.add(body, pymunk.Circle(body, AGENT_RADIUS))
        return body

    def _add_block(self) -> "pymunk.Body":
        body = pymunk.Body(BLOCK_MASS, 2 * pymunk.moment_for_poly(BLOCK_MASS, BAR))
        bar, stem = pymunk.Poly(body, BAR), pymunk.Poly(body, STEM)
        body.center_of_gravity = (bar.center_of_gravity + stem.center_of_gravity) / 2
        body.position = BLOCK_ENTRY
        self._space.add(body, bar, stem)
        return body

    @property
    def agent_position(self) -> Point:
        """Centre of the agent (x, y), in pixels."""
        return tuple(self._agent.position)

    @property
    def agent_velocity(self) -> Point:
        """Velocity of the agent (x, y), in pixels per second."""
        return tuple(self._agent.velocity)

    @property
    def block_pose(self) -> tuple[float, float, float]:
        """Block origin x, y (pixels) and angle (radians, not wrapped)."""
        x, y = self._block.position
        return x, y, self._block.angle

    def follow(self, target: Point) -> None:
        """Let the agent follow `target` (x, y) for one control period of 0.1 s.

        The agent is a proportional-derivative controlled point without mass: pushing does not slow it.
        """
        target_x, target_y = target
        agent, space = self._agent, self._space
        for _ in range(PHYSICS_STEPS_PER_CONTROL):
            x, y = agent.position
            vx, vy = agent.velocity
            acceleration_x = POSITION_GAIN * (target_x - x) - VELOCITY_GAIN * vx
            acceleration_y = POSITION_GAIN * (target_y - y) - VELOCITY_GAIN * vy
            agent.velocity = (vx + acceleration_x * PHYSICS_STEP_S, vy + acceleration_y * PHYSICS_STEP_S)
            space.step(PHYSICS_STEP_S)

    def contact_segments(self) -> list[tuple[Point, Point]]:
        """The contacts of the last physics step, each as a line along its normal.

        A line joins the two surfaces' points of contact, prolonged by 2 px on either side.
        """
        return self._contact_drawing.collect(self._space)


class _ContactSegments(pymunk.SpaceDebugDrawOptions):
    """Collects the segments by which the physics engine's debug drawing shows contacts."""

    def __init__(self) -> None:
        super().__init__()
        self.flags = pymunk.SpaceDebugDrawOptions.DRAW_COLLISION_POINTS
        self._segments: list[tuple[Point, Point]] = []

    def collect(self, space: "pymunk.Space") -> list[tuple[Point, Point]]:
        self._segments = []
        space.debug_draw(self)
        return self._segments

    def draw_segment(self, a: Point, b: Point, color: object) -> None:
        self._segments.append(((a[0], a[1]), (b[0], b[1])))
