package a

type Colour int

const (
	Red Colour = iota
	Blue
)

func found(c Colour) {
	switch c { // want `missing cases`
	case Red:
	}
}

func defaulted(c Colour) {
	switch c {
	case Red:
	default:
	}
}
