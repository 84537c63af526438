"""Many runs: launched and watched; an arm's search for its best settings; as many seeds as verdicts need."""
