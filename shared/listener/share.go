package listener

// descriptorsMost is as many descriptors as we count with: a limit may be "infinity". descriptorsAssumed is what nearly every system gives.
const (
	descriptorsMost    = 1 << 20
	descriptorsAssumed = 1024
)

// Share is a part of n descriptors: of/in of them, between least and most.
func Share(n, of, in, least, most int) int {
	return min(max(n/in*of+n%in*of/in, least), most)
}
